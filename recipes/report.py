"""What a run did, in one self-contained page with its charts: ``python -m recipes.report RUN_FOLDER``.

The quickstart writes the same charts into its own ``report.html``, which tells of the whole recipe.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from base import storage
from base.errors import UserError, run_command
from base.page import Block, html_page
from base.progress import say
from recipes.metrics import LOSS, read_entries, read_metrics, series


def write_run_report(path: Path, run_folder: Path) -> None:
    """Write the page of one training run, finished or not.

    Args:
        path: the file.
        run_folder: with metrics.jsonl, and config.yaml if it is there.

    Raises:
        UserError: there are no metrics, or none of a batch.
    """
    metrics = run_folder / "metrics.jsonl"
    if not metrics.is_file():
        raise UserError(f"{metrics}: no such file; give the run_folder of a training, as it lies on rank 0's node")
    batches = read_metrics(metrics)
    if not series(batches, LOSS)[1]:
        raise UserError(f"{metrics}: no batch is in it yet; try again when the first is trained")
    from recipes.report_content import of_run  # imports matplotlib

    starts = [entry["batch"] for entry in read_entries(metrics) if "process_started" in entry]
    _write(path, of_run(run_folder.resolve(), batches, starts))


def write_report(path: Path, summary: dict[str, Any], whole_metrics: Path, resumed_metrics: Path) -> None:
    """Write the page of a quickstart.

    Args:
        path: the file.
        summary: what goes into summary.json, with ``details`` for the page alone.
        whole_metrics: metrics.jsonl of the run that was left alone.
        resumed_metrics: metrics.jsonl of the run that was killed and resumed.
    """
    from recipes.report_content import of_quickstart  # imports matplotlib

    _write(path, of_quickstart(summary, read_metrics(whole_metrics), read_metrics(resumed_metrics)))


def _write(path: Path, content: Iterable[Block]) -> None:
    storage.write_bytes(str(path), html_page(list(content)).encode())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.report", description=__doc__)
    parser.add_argument("run_folder", type=Path, help="of a training, finished or not, with its metrics.jsonl")
    parser.add_argument("--out", type=Path, help="the page; without it, report.html in the run's folder")
    arguments = parser.parse_args()
    out = arguments.out or arguments.run_folder / "report.html"
    write_run_report(out, arguments.run_folder)
    say(f"{out.resolve()}")


if __name__ == "__main__":
    run_command(main)
