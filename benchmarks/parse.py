"""CPU microseconds per PubMed citation, three ways over the same file, and the peak memory and growth of ours.

  recipe         what the parse stage does with one file: decompress, check, read, all columns of its schema, Parquet
  recipe_tree    the same with every record read from a tree: the plain form, which the byte form must equal
  pubmed_parser  `parse_medline_xml` with its defaults (version 0.5.1), the dictionaries made and dropped

The file is made of the real citations in --source (any folder of PubMed files), repeated as `benchmarks/citations.py`
does it; without --source, of generated ones. The three take turns in processes of their
own, and the smallest CPU time of each counts, because the machine may be shared. Growth: recipe alone on files of 1, 4
and 16 times so many citations; the largest holds as many as one of NLM's and gives the peak memory.
Bars: recipe at most 100 us a citation, 600 MB, and growth within 10 %.

    python -m benchmarks parse --source ../shared/data/pubmed
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.citations import originals_of, write_citations

BARS = {"recipe_us": 100, "peak_mb": 600, "growth": 1.1}
WAYS = ("recipe", "recipe_tree", "pubmed_parser")
GROWTH = (1, 4, 16)


def measure(arguments: list[str]) -> dict[str, Any]:
    """Microseconds by way, ratios to pubmed_parser, peak memory, growth, and whether the bars are met."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks parse", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", help="folder of real PubMed files; without it, generated ones")
    parser.add_argument(
        "--citations", type=int, default=1900, help="in the smallest file; the largest has 16 times so many"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        source = given.source or _sample(Path(folder) / "sample")
        citations = list(originals_of(source))
        numbers = [given.citations * times for times in GROWTH]
        files = [write_citations(source, Path(folder) / f"{one}", one, a_file=one)[0] for one in numbers]
        runs = {way: list[dict[str, float]]() for way in WAYS}
        growing: list[list[dict[str, float]]] = [[] for _ in files]
        for _ in range(given.rounds):
            for way in WAYS:
                runs[way].append(_run(way, files[1]))
            for file, done in zip(files, growing, strict=True):
                done.append(_run("recipe", file))
        sizes = [file.stat().st_size for file in files]
    us = {way: min(run["us"] for run in done) for way, done in runs.items()}
    growth = [round(min(run["us"] for run in done), 1) for done in growing]
    peak = max(run["peak_mb"] for run in growing[-1])
    return {
        "distinct_citations": len(citations),
        "xml_bytes_a_citation": round(sum(map(len, citations)) / len(citations)),
        "citations": numbers,
        "gzip_bytes": sizes,
        "us_a_citation": {way: round(value, 1) for way, value in us.items()},
        "pubmed_parser/recipe": round(us["pubmed_parser"] / us["recipe"], 2),
        "recipe_tree/recipe": round(us["recipe_tree"] / us["recipe"], 2),
        "us_by_size": growth,
        "growth": round(growth[-1] / growth[0], 3),
        "peak_mb": round(peak),
        "bars": BARS,
        "bars_met": {
            "recipe_us": us["recipe"] <= BARS["recipe_us"],
            "peak_mb": peak <= BARS["peak_mb"],
            "growth": growth[-1] <= growth[0] * BARS["growth"],
        },
        "rounds": given.rounds,
    }


def _sample(folder: Path) -> str:
    """Generated files, where there are no real ones."""
    from data_prep.download.sample import write_sample
    from data_prep.schema import Sample

    write_sample(folder, Sample())
    return str(folder)


def _run(way: str, file: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.parse_ways", way, str(file)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result
