"""Tasks that are done in other processes, on other machines as it were, and a rank that serves."""

import os
import signal
import sys
import time
from pathlib import Path

from base.errors import UserError, run_command
from data_prep.executors.serve import serve

STALE, PATIENCE = 2.0, 20.0


def double(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def double_slowly(number: int) -> tuple[int, int]:
    time.sleep(0.1)
    return 2 * number, os.getpid()


def write_late_or_fail(path: Path) -> None:
    if path.name == "fails":
        raise UserError("this one cannot be done")
    time.sleep(0.3)
    path.touch()


def fail_strangely(_: int) -> None:
    raise NeedsTwo("left", "right")


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class NeedsTwo(Exception):
    """As many exceptions in the wild: it can be pickled, but not unpickled."""

    def __init__(self, first: str, second: str):
        super().__init__(f"{first} {second}")


def main() -> None:
    folder, rank, settings = sys.argv[1:]
    if not serve(Path(folder), int(rank), 1, settings, None, STALE, PATIENCE):
        sys.exit(1)


if __name__ == "__main__":
    run_command(main)
