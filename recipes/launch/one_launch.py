"""One launch by Composer's launcher, from its start until nothing of it is left on this node.

Composer's launcher by itself dies of SIGTERM and SIGUSR1 and leaves its ranks behind. Here it is kept from them, and
the ranks are asked instead; and what outlives the launcher, killed as it may be, is waited for.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from types import FrameType

import psutil

from base.parent import LIBC, signal_at_death_of_parent
from base.progress import say

STOP_SECONDS = 60  # Composer's launcher kills ranks that do not end within 30 seconds
PR_SET_CHILD_SUBREAPER = 36


class Signals:
    """What has been asked of this process so far."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.at_once = False
        for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
            signal.signal(one, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.at_once = self.first is not None or number == signal.SIGINT
        if self.first is None:
            self.first = number


def adopt_orphans() -> None:
    """Make this process the parent of what its descendants leave behind, so that none of it is lost from sight."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1)


def run(command: list[str], signals: Signals, grace_seconds: float) -> int:
    """Run one launch to its end. Returns its exit code, as a shell would count it; nothing of it runs any more then.

    Call :func:`adopt_orphans` before.
    """
    # Its own session: what a terminal sends to all of this process's group must not reach the ranks as well.
    launcher = subprocess.Popen(command, start_new_session=True, preexec_fn=_become_launcher)
    deadline, stopped = None, False
    while launcher.poll() is None:
        if signals.first is not None and deadline is None:
            asked = 0 if signals.at_once else _ask_ranks(launcher.pid)
            deadline = time.monotonic() + (grace_seconds if asked else 0)
            say(f"asked to end: {asked} ranks were told to save; {grace_seconds:g} s for that" if asked else "ending")
        if deadline is not None and (signals.at_once or time.monotonic() > deadline):
            _stop(launcher)
            stopped = True
        time.sleep(0.1)
    _leave_nobody(signals, time.monotonic() + grace_seconds if deadline is None else deadline)
    code = 128 - launcher.returncode if launcher.returncode < 0 else launcher.returncode
    return code if code != 0 or not stopped else 128 + signal.SIGINT


def _become_launcher() -> None:
    """In the new process: SIGUSR1 is for its ranks, and it ends them when this process dies without having said so.

    SIGUSR2 is for run_on_node alone; the ranks and their loader workers are born deaf to it.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has a job in the background ignore it
    signal_at_death_of_parent(signal.SIGINT)


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


def _stop(launcher: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C: Composer's launcher asks its ranks to end, then kills them."""
    launcher.send_signal(signal.SIGINT)
    try:
        launcher.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()


def _leave_nobody(signals: Signals, deadline: float) -> None:
    """Wait until all that the launch has started is gone; kill it after ``deadline``, or at a second signal.

    Mostly these are loader workers that have yet to see that their rank is gone. Ranks whose launcher was killed have
    been told so by the kernel and are saving: they must not be asked a second time.
    """
    told, killed_at = False, None
    while left := _descendants():
        now = time.monotonic()
        if not told:
            say(f"waiting for what has outlived its launcher: {_pids(left)}")
            told = True
        if killed_at is None and (signals.at_once or now > deadline):
            say(f"killing what has outlived its launcher: {_pids(left)}")
            killed_at = now
        if killed_at is not None:
            for one in left:
                with suppress(psutil.NoSuchProcess):
                    one.kill()  # again and again: one might have started another meanwhile
            if now > killed_at + STOP_SECONDS:  # in a driver; the check of the nodes says what it holds
                say(f"cannot be killed: {_pids(left)}")
                return
        time.sleep(0.1)


def _pids(processes: list[psutil.Process]) -> str:
    return f"{'process' if len(processes) == 1 else 'processes'} {', '.join(str(one.pid) for one in processes)}"


def _descendants() -> list[psutil.Process]:
    """What of the launch is alive, once the launcher has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:  # the dead among those adopted
            pass
    except ChildProcessError:
        return []
    return psutil.Process().children(recursive=True)
