"""The whole recipe as a newcomer runs it: seconds by part, in all, and peak memory, from its own summary.json.

Bars, with `--source` on the 1,407 PMIDs of the project's test data, on 2 cores: 6 minutes and 8 GB.
The output folder must be new: a quickstart that goes on where another one stopped would seem faster than it is.

    python -m benchmarks quickstart --source DIR [--qa DIR] [--gpt2 DIR]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SECONDS_BAR = 360
BYTES_BAR = 8e9


def measure(arguments: list[str]) -> dict[str, Any]:
    """``seconds`` by part and ``total``, ``peak_memory_bytes``, their bars, and what was processed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks quickstart",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("source", "qa", "gpt2"):
        parser.add_argument(f"--{name}", help="as of `python -m recipes.quickstart`")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    passed_on = [part for name, value in given.items() for part in (f"--{name}", value)]
    with tempfile.TemporaryDirectory(prefix="quickstart-") as folder:
        command = [sys.executable, "-m", "recipes.quickstart", *passed_on, "--out", folder]
        subprocess.run(command, stdout=sys.stderr, check=True)
        summary = json.loads((Path(folder) / "summary.json").read_text())
    return {
        "seconds": summary["seconds"],
        "seconds_bar": SECONDS_BAR,
        "seconds_bar_met": summary["seconds"]["total"] <= SECONDS_BAR,
        "peak_memory_bytes": summary["peak_memory_bytes"],
        "peak_memory_bar_bytes": BYTES_BAR,
        "peak_memory_bar_met": summary["peak_memory_bytes"] <= BYTES_BAR,
        "records_in": summary["records_in"],
        "train_tokens": summary["train_tokens"],
        "bit_identical": summary["resume"]["bit_identical"],
    }
