"""One way of `python -m benchmarks parse` over one file, in a process of its own. See benchmarks/parse.py.

Prints the CPU microseconds a citation (without the start of Python and its imports) and the peak memory.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from base.errors import UserError, run_command


def recipe(file: Path) -> Callable[[], int]:
    """The stage's work on a file."""
    import data_prep.parse.pubmed  # noqa: F401 # the stage itself imports it when there is a file to read
    from data_prep.parse.sources import Source
    from data_prep.parse.stage import ParseTask, parse_file
    from data_prep.schema import ParsePubmed

    def work() -> int:
        with TemporaryDirectory() as folder:
            source = Source(file.name, str(file), "", file.stat().st_size)
            parsed = parse_file(ParseTask("pubmed", source, Path(folder) / "rows.parquet", ParsePubmed(), ""))
        if parsed.refused:
            raise UserError(f"{file}: refused: {parsed.refused}")
        return parsed.records

    return work


def recipe_tree(file: Path) -> Callable[[], int]:
    """The same with every record read from a tree."""
    from data_prep.parse import pubmed

    pubmed.read_pubmed = pubmed.read_pubmed_as_tree
    return recipe(file)


def pubmed_parser(file: Path) -> Callable[[], int]:
    """Its records, one after the other; nothing is written."""
    try:
        from pubmed_parser import parse_medline_xml
    except ImportError:
        raise UserError("pubmed_parser is not there: pip install pubmed_parser==0.5.1") from None
    return lambda: sum(1 for _ in parse_medline_xml(str(file)))


def main() -> None:
    name, file = sys.argv[1:]
    work = {"recipe": recipe, "recipe_tree": recipe_tree, "pubmed_parser": pubmed_parser}[name](Path(file))
    start = time.process_time()
    citations = work()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"us": seconds / citations * 1e6, "citations": citations, "peak_mb": peak}))


if __name__ == "__main__":
    run_command(main)
