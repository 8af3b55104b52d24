"""Run Composer's launcher on a node, hand signals on to its ranks, and start it again after a failure.

``python -m recipes.launch.run_on_node [--grace-seconds S] [--max-restarts N] composer … [--then composer …]``: each
command once the one before has ended with 0. Ends with the exit code of the last that ran.

**Signals.** SIGTERM (from Kubernetes) and SIGUSR2 (from the job script for Slurm) ask the ranks to end: each rank that
catches SIGUSR1 gets it, once, and may save and end within the grace time. Where no rank catches it there is nothing to
wait for: they are ended at once, as by a second signal or Ctrl-C. After a signal nothing is started again, and the exit
code is 0 or 75 when the ranks ended with it, else the signal's (143, 140, 130). SIGUSR1 is taken like SIGTERM. Slurm
sends every signal to all processes of a step; SIGUSR2 is the one that ranks and loader workers do not heed.

**Restarts.** All commands are run again from the first when one has ended with another code than 0, 2 (which a restart
would repeat) or 130 (Ctrl-C): at once after 75, else after a wait that doubles each time. The first command, the check
of the nodes, is run even after 75: one node may have ended with 75 and another with 1, and they would wait for each
other at two places. The limit is of failures in a row, for a run of weeks meets more than a broken one may: once the
last command has run for ``--steady-seconds``, longer than a hang is noticed in, the next failure counts as the first.

**Several nodes.** Each has its own loop, and they meet in the check. When the ranks of one node have failed, those of
the others fail in their next collective, or after ``dist_timeout`` when they hang in it; so much longer a node waits in
the check of a restart, which it knows by ``BIOMEDLM_RESTARTS``. A node that has counted more failures ends first; then
the others miss it in the check, and end with 2. So the attempts are no more than the first node to end allows itself.
"""

import argparse
import os
import signal
import socket
import sys
import time

from base.errors import FAILED, MENDABLE, START_AGAIN
from base.progress import duration, say
from recipes.launch.one_launch import Signals, adopt_orphans, run

THEN = "--then"
RESTARTS = "BIOMEDLM_RESTARTS"  # in the commands' environment: how many there were so far
LONGEST_WAIT = 300.0  # seconds
CTRL_C = 128 + signal.SIGINT
FINAL = (0, MENDABLE, CTRL_C)
IN_WORDS = {
    FAILED: "a failure",
    MENDABLE: "a fault that a restart would repeat",
    START_AGAIN: "ended early, all saved",
    CTRL_C: "Ctrl-C",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.launch.run_on_node", description=__doc__)
    parser.add_argument("--grace-seconds", type=float, default=180.0, help="what ranks may take to save and end")
    parser.add_argument("--max-restarts", type=int, default=0, help="after so many failures in a row: the end")
    parser.add_argument("--backoff-seconds", type=float, default=10.0, help="wait before the first restart")
    parser.add_argument("--steady-seconds", type=float, default=3600.0, help="what has run so long is no failed start")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=f"composer …, more of them after {THEN}")
    arguments = parser.parse_args()
    signals = Signals()
    adopt_orphans()
    sys.exit(keep_running(_split(arguments.command), signals, arguments))


def keep_running(commands: list[list[str]], signals: Signals, limits: argparse.Namespace) -> int:
    """Run the commands until they are done, or are not to be started again. Returns the exit code."""
    node, most = socket.gethostname(), limits.max_restarts
    failures = restarts = 0  # in a row; in all
    while True:
        os.environ[RESTARTS] = str(restarts)
        code, seconds = _attempt(commands, signals, limits.grace_seconds)
        if signals.first is None and code not in FINAL:
            failures = 1 if seconds >= limits.steady_seconds else failures + 1
            if failures > most:
                if most:
                    say(f"{node}: exit code {in_words(code)}; the end, after {most} restarts")
                return code
            wait = seconds_to_wait(code, failures, limits.backoff_seconds)
            say(f"{node}: exit code {in_words(code)}; restart {failures} of {most} in {duration(wait)}")
            _wait(wait, signals)
            if signals.first is None:
                restarts += 1
                continue
        if signals.first is not None and code not in (0, START_AGAIN):  # 2, too, may come of being ended
            return 128 + signals.first
        return code


def seconds_to_wait(code: int, failures: int, first: float) -> float:
    """Before the next attempt: ``first`` after one failure, twice as long after each further one."""
    return 0.0 if code == START_AGAIN else min(first * 2 ** (failures - 1), LONGEST_WAIT)


def in_words(code: int) -> str:
    """``75`` → ``75 (ended early, all saved)``, ``247`` → ``247 (SIGKILL)``."""
    number = 256 - code if code > 191 else code - 128  # Composer's launcher ends with -9 for a rank that was killed
    try:
        return f"{code} ({IN_WORDS.get(code) or signal.Signals(number).name})"
    except ValueError:
        return str(code)


def _attempt(commands: list[list[str]], signals: Signals, grace_seconds: float) -> tuple[int, float]:
    """Run each command once the one before has ended with 0. Returns the exit code, and how long the last one ran."""
    for command in commands:
        if signals.first is not None:
            return 128 + signals.first, 0.0
        start = time.monotonic()
        code = run(command, signals, grace_seconds)
        if code != 0:
            return code, time.monotonic() - start if command is commands[-1] else 0.0
    return 0, 0.0


def _wait(seconds: float, signals: Signals) -> None:
    """Until then, or until a signal."""
    deadline = time.monotonic() + seconds
    while signals.first is None and time.monotonic() < deadline:
        time.sleep(0.1)


def _split(words: list[str]) -> list[list[str]]:
    commands: list[list[str]] = [[]]
    for word in words:
        if word == THEN:
            commands.append([])
        else:
            commands[-1].append(word)
    if not all(commands):
        raise SystemExit(f"run_on_node: a command is missing; the form is: composer … [{THEN} composer …]")
    return commands


if __name__ == "__main__":
    main()
