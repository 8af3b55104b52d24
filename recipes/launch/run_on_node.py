"""Run Composer's launcher on a node and hand signals on to its ranks.

``python -m recipes.launch.run_on_node [--grace-seconds N] composer … [--then composer …]``: each command once the one
before has ended with 0. Ends with the exit code of the last that ran.

SIGTERM (from Kubernetes or Slurm) and SIGUSR1 (from Slurm, some time before the job's limit) ask the ranks to end:
each rank that catches SIGUSR1 gets it, and may save and end within the grace time. Where no rank catches it there is
nothing to wait for: they are ended at once, as by a second signal or Ctrl-C. Composer's launcher by itself dies of
either signal and leaves its ranks behind.
"""

import argparse
import ctypes
import signal
import subprocess
import sys
import time
from types import FrameType

import psutil

from base.progress import say

THEN = "--then"
STOP_SECONDS = 60  # Composer's launcher kills ranks that do not end within 30 seconds
ENDED_BY_SIGNAL = 128 + signal.SIGTERM
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Signals:
    """What has been asked of this process so far."""

    def __init__(self) -> None:
        self.number = 0
        self.at_once = False
        for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(one, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number += 1
        self.at_once = self.number > 1 or number == signal.SIGINT


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.launch.run_on_node", description=__doc__)
    parser.add_argument("--grace-seconds", type=float, default=180.0, help="what ranks may take to save and end")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=f"composer …, more of them after {THEN}")
    arguments = parser.parse_args()
    signals = Signals()
    for command in _split(arguments.command):
        if signals.number:
            sys.exit(ENDED_BY_SIGNAL)
        code = run(command, signals, arguments.grace_seconds)
        if code != 0:
            sys.exit(code)


def run(command: list[str], signals: Signals, grace_seconds: float) -> int:
    """Run one launch to its end. Returns its exit code, as a shell would count it."""
    # Its own session: what a terminal or Slurm sends to all of this process's group must not reach the ranks twice.
    launcher = subprocess.Popen(command, start_new_session=True, preexec_fn=_become_launcher)
    deadline = None
    while launcher.poll() is None:
        if signals.number and deadline is None:
            asked = 0 if signals.at_once else _ask_ranks(launcher.pid)
            deadline = time.monotonic() + (grace_seconds if asked else 0)
            say(f"asked to end: {asked} ranks were told to save; {grace_seconds:g} s for that" if asked else "ending")
        if deadline is not None and (signals.at_once or time.monotonic() > deadline):
            return _stop(launcher)
        time.sleep(0.1)
    return _as_shell(launcher.returncode)


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


def _become_launcher() -> None:
    """In the new process: SIGUSR1 is for its ranks, and it ends them when this process dies without having said so."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has a job in the background ignore it
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _ask_ranks(launcher: int) -> int:
    """Send SIGUSR1 to the ranks that catch it; how many they are."""
    asked = 0
    try:
        ranks = psutil.Process(launcher).children()
    except psutil.NoSuchProcess:
        return 0
    for rank in ranks:
        try:
            if _catches(rank.pid, signal.SIGUSR1):
                rank.send_signal(signal.SIGUSR1)
                asked += 1
        except (OSError, psutil.NoSuchProcess):  # it has just ended
            continue
    return asked


def _catches(pid: int, number: signal.Signals) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        caught = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def _stop(launcher: "subprocess.Popen[bytes]") -> int:
    """As Ctrl-C: Composer's launcher asks its ranks to end, then kills them."""
    launcher.send_signal(signal.SIGINT)
    try:
        return _as_shell(launcher.wait(timeout=STOP_SECONDS)) or ENDED_BY_SIGNAL
    except subprocess.TimeoutExpired:
        for one in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
            one.kill()
        return _as_shell(launcher.wait())


def _as_shell(code: int) -> int:
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    main()
