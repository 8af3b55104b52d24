"""The report of an evaluation: ``python -m eval report RESULTS_FOLDER``.

The page, its Markdown and ``results.json`` are made of the same facts (``eval/report_facts.py``).
"""

import argparse
import json
import shlex
from collections.abc import Sequence

from base import storage
from base.errors import UserError
from base.masking import without_secrets
from base.progress import say
from eval.records import read_record
from eval.report_facts import gather, numbers

NUMBERS = "results.json"


def main(arguments: list[str]) -> None:
    """The command. Raises UserError."""
    parser = argparse.ArgumentParser(prog="python -m eval report", description="A page on the results of a folder.")
    parser.add_argument("results_folder", help="of NAME.json and NAME.items.jsonl, local or s3://")
    parser.add_argument("--name", help="the result to show; without it the one with most tokens, or the only one")
    parser.add_argument(
        "--against", nargs="+", action="extend", default=[], metavar="NAME", help="other models' results in the folder"
    )
    parser.add_argument("--data", help="the folder with the questions; without it the one that the result names")
    parser.add_argument("--out", help="the page, local or s3://; without it, report.html in the folder")
    asked = parser.parse_args(arguments)
    out = asked.out or storage.join(asked.results_folder, "report.html")
    command = shlex.join(["python", "-m", "eval", "report", *arguments])
    for place in write_report(asked.results_folder, out, asked.name, asked.against, asked.data, command):
        say(f"wrote {place}")


def write_report(
    folder: str,
    out: str,
    name: str | None = None,
    against: Sequence[str] = (),
    data: str | None = None,
    command: str = "",
) -> list[str]:
    """Write the page to ``out``, its Markdown and ``results.json`` beside it; returns the three places.

    The arguments are those of :func:`eval.report_facts.gather`.

    Raises:
        UserError: as there; ``out`` is no place for a page, or a result file of the name results is there.
    """
    if not out.endswith(".html"):
        raise UserError(f"--out: {out} should end with .html; the Markdown is written beside it")
    table = out[: out.rfind("/") + 1] + NUMBERS
    if storage.exists(table) and not _is_table(table):
        raise UserError(f"{table}: is not of a report, and would be overwritten; give another --out")
    facts = gather(folder, name, against, data, command)

    from base.page import html_page, markdown
    from eval.report_content import blocks  # imports matplotlib

    content = blocks(facts)
    written = {
        out: html_page(content),
        f"{out.removesuffix('.html')}.md": markdown(content),
        table: json.dumps(numbers(facts), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    for place, text in written.items():
        storage.write_bytes(place, without_secrets(text).encode())
    return list(written)


def _is_table(place: str) -> bool:
    try:
        return read_record(place) is None
    except UserError:
        return False
