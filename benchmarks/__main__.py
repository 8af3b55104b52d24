"""Run one benchmark: ``python -m benchmarks [--record] NAME [arguments of the benchmark]``.

The last line of standard output is one JSON object: the figures, with the versions, the machine, the date and the
command. ``--record`` also writes it to ``benchmarks/records/NAME-YYYY-MM-DD.json``, or to ``…-2.json`` after that.
"""

import argparse
import importlib
import json
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from base import storage
from base.errors import run_command

BENCHMARKS = {  # name: (module, what it measures)
    "training": ("benchmarks.training", "tokens per second: our Trainer run, a bare loop, transformers' GPT-2"),
    "gpu": ("benchmarks.gpu", "training steps of the 2.7B model on a GPU: lever by lever, and train.py's Trainer"),
    "chaos": ("benchmarks.chaos.chaos", "a run that is killed 30 times before a faulty store, against one left alone"),
    "saves": ("benchmarks.saves", "seconds that training waits for a checkpoint, and that its upload takes"),
    "guards": ("benchmarks.guards", "what guard and watchdog cost a step"),
    "loader": ("benchmarks.loader", "tokens per CPU-second of the training's loader, with nothing training"),
    "corpus": ("benchmarks.corpus", "CPU, growth and memory of data preparation, beside the plain way to do it"),
    "tokenise": ("benchmarks.tokenise", "tokens per CPU-second of data_prep's tokenising, and of tokenizers alone"),
    "select": ("benchmarks.select", "CPU of the rules on texts, near duplicates found, their memory at scale"),
    "scale": ("benchmarks.scale", "memory and seconds of the decisions about all of PubMed and PMC at once"),
    "referee": ("benchmarks.referee.referee", "our scores beside lm-eval's: log-likelihoods, accuracies, CPU time"),
    "check": ("benchmarks.check", "seconds of `train.py --check` and of every `--help`"),
    "parse": ("benchmarks.parse", "CPU microseconds a PubMed citation: ours, from trees alone, pubmed_parser; memory"),
    "pmc_download": ("benchmarks.pmc_download", "CPU per article and requests a second from a bucket of PMC"),
    "packing": ("benchmarks.packing", "seconds of laying out and writing shards, and the room left empty"),
    "quickstart": ("benchmarks.quickstart", "seconds by part and peak memory of the whole recipe"),
}
PACKAGES = (
    "torch", "mosaicml", "mosaicml-streaming", "transformers", "tokenizers", "gigatoken", "rensa", "lxml", "pyarrow",
)  # fmt: skip
RECORDS = Path(__file__).parent / "records"


def main() -> None:
    listed = "\n".join(f"  {name:<12}{about}" for name, (_, about) in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\nbenchmarks:\n{listed}\n\n`python -m benchmarks NAME --help` says more of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--record", action="store_true", help="also write a dated record into benchmarks/records")
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME", help="one of those below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of the benchmark")
    arguments = parser.parse_args()

    figures = importlib.import_module(BENCHMARKS[arguments.name][0]).measure(arguments.rest)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    record = {
        "benchmark": arguments.name,
        "figures": figures,
        "date": today,
        "command": " ".join(["python -m benchmarks", arguments.name, *arguments.rest]),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"cores": os.cpu_count(), "architecture": platform.machine(), "load_average": os.getloadavg()[1]},
    }
    if arguments.record:
        text = json.dumps(record, indent=2) + "\n"
        names = (f"{arguments.name}-{today}{again}.json" for again in ["", *(f"-{run}" for run in range(2, 100))])
        place = next(RECORDS / name for name in names if not (RECORDS / name).exists())
        storage.write_bytes(str(place), text.encode())
    print(json.dumps(record))


def _versions() -> dict[str, str]:
    """Of what is installed: a GPU machine need not have what prepares the data."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


if __name__ == "__main__":
    run_command(main)
