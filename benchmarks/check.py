"""Wall seconds until the commands that should answer at once have answered.

`python train.py yamls/biomedlm.yaml --check` (the run sheet of the 2.7B run; at most 10 seconds) and each `--help`.
Every command runs several times in a process of its own, and the smallest time counts: the machine may be shared.

    python -m benchmarks check
"""

import argparse
import subprocess
import sys
import time
from typing import Any

CHECK = ("train.py", "yamls/biomedlm.yaml", "--check")
HELPS = (
    ("train.py", "--help"),
    ("evaluate.py", "--help"),
    ("-m", "benchmarks", "--help"),
    ("-m", "recipes.quickstart", "--help"),
    ("-m", "data_prep", "--help"),
    ("-m", "model.export", "--help"),
    ("-m", "model.generate", "--help"),
)
BAR = 10.0


def measure(arguments: list[str]) -> dict[str, Any]:
    """``check_seconds``, its bar, and ``help_seconds`` by command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=3)
    repetitions = parser.parse_args(arguments).repetitions
    seconds = _seconds(CHECK, repetitions)
    helps = {" ".join(command): _seconds(command, repetitions) for command in HELPS}
    return {
        "check_seconds": seconds,
        "check_bar_seconds": BAR,
        "check_bar_met": seconds <= BAR,
        "help_seconds": helps,
        "repetitions": repetitions,
    }


def _seconds(command: tuple[str, ...], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        start = time.monotonic()
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
        times.append(time.monotonic() - start)
    return round(min(times), 2)
