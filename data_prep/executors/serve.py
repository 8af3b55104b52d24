"""A rank that is not the first: it does tasks for rank 0 until rank 0 says that the run has ended."""

import os
import socket
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from base.errors import UserError
from base.progress import duration, say
from data_prep.executors.attempt import Outcome
from data_prep.executors.local import LocalProcesses
from data_prep.executors.mailbox import (
    BEATS,
    DONE,
    GOING,
    RUN,
    Pace,
    Pulse,
    get_object,
    get_state,
    put_object,
    put_state,
)
from data_prep.executors.places import Places


def serve(
    folder: Path,
    rank: int,
    workers: int | None,
    settings: str,
    job: str | None,
    stale_seconds: float,
    patience_seconds: float,
) -> bool:
    """Do tasks for rank 0; a rank 0 that was killed and started again is followed.

    Args:
        folder: of the ranks, in the work folder.
        workers: processes; None for one on each CPU.
        settings: the digest of this rank's configuration, which must be rank 0's.
        job: the Slurm job that all ranks belong to, if any: of a run of this job, it is known that it has ended.
        stale_seconds: who gives no sign of life for so long is dead.
        patience_seconds: how long to wait for a rank 0 that lives.

    Returns:
        Whether the run has ended well.

    Raises:
        UserError: no rank 0 for so long; its configuration is another; this machine does not see what it writes.
    """
    folder = folder.absolute()  # this process will go where rank 0 was started
    say(f"rank {rank}: waits for rank 0 in {folder}")
    pulse, pace = Pulse(patience_seconds), Pace()
    found = state = get_state(folder / RUN) or {}  # perhaps of a run that has ended, or was killed, long ago
    service: _Service | None = None
    try:
        while True:
            happened = False
            if service is not None:
                happened = service.step()
                if service.over:
                    service.leave()
                    service = None
            elif state != found and state["stands"] == GOING:
                if state["settings"] != settings:
                    raise UserError(
                        f"rank {rank}: its YAML or arguments are not those of rank 0; all must be given the same, "
                        "besides executor.rank and executor.workers"
                    )
                places = Places(state["here"], tuple(state["written"]), tuple(state["read"]), state["run"])
                if not places.replaced() and _still(folder, state):
                    places.require_seen()
                    os.chdir(places.here)
                    service = _Service(folder / places.run, rank, workers, stale_seconds, places)
            of_this_job = job is not None and state.get("job") == job
            if state and state["stands"] != GOING and (state != found or of_this_job):
                say(
                    f"rank {rank}: the run has ended {'well' if state['stands'] == DONE else 'with an error of rank 0'}"
                )
                return state["stands"] == DONE
            if not pulse.beats((state.get("run"), state.get("beat"))):
                raise UserError(
                    f"rank {rank}: no sign of life from rank 0 in {folder} for {duration(patience_seconds)}"
                )
            seconds = pace.after(happened)
            if service is None:
                time.sleep(seconds)
            else:
                service.wait(seconds)
            state = get_state(folder / RUN) or state
    finally:
        if service is not None:
            service.leave()


def _still(folder: Path, state: dict[str, Any]) -> bool:
    """Whether the run goes on, looked at afresh: one that has ended takes its marks away."""
    now = get_state(folder / RUN) or {}
    return (now.get("run"), now.get("stands")) == (state["run"], GOING)


class _Service:
    """A rank as a member of one run."""

    def __init__(self, folder: Path, rank: int, workers: int | None, stale_seconds: float, places: Places):
        # Not the rank alone: one that Slurm starts again must not be taken for the one before.
        self._name = f"{rank}-{socket.gethostname()}-{uuid.uuid4().hex[:6]}"
        self._folder = folder
        self._stale_seconds = stale_seconds
        self._places = places
        self._processes = LocalProcesses(workers)
        self._futures: dict[str, Future[Outcome[Any]]] = {}
        self._ended: set[str] = set()
        self._told: dict[str, Any] = {}
        self._told_at = _seconds()
        self._beat = 0
        self._letter = folder / f"to-{self._name}.json"
        self.over = False
        # The first letter is our own: a name that was looked for in vain is remembered by NFS, for up to a minute.
        put_state(self._letter, {"letter": 0, "tasks": []})
        self._tell(0)
        say(f"rank {rank}: serves with {self._processes.workers} processes")

    def step(self) -> bool:
        """Look at what rank 0 wants, and tell what has come of it; whether there was anything new. Sets ``over``."""
        letter = get_state(self._letter)
        if letter is None:  # the folder is being deleted, by a new run
            self.over = True
            return True
        # Whoever stood still for so long (a machine that was suspended) has been taken for dead, and his tasks are done
        # by others; after a new start of rank 0, another run may be writing in the same folders.
        if letter.get("dismissed") or self._places.replaced() or _seconds() - self._told_at > self._stale_seconds:
            self.over = True
            return True
        wanted = letter["tasks"]
        self._drop_others(wanted)
        for task in wanted:
            if task not in self._futures and task not in self._ended:
                function, description = get_object(self._folder / f"task-{self._name}-{task}")
                self._futures[task] = self._processes.submit(function, description)
        for task in [task for task, future in self._futures.items() if future.done()]:
            outcome = self._processes.outcome(self._futures.pop(task))
            if task in wanted:
                put_object(self._folder / f"result-{self._name}-{task}", outcome)
                self._ended.add(task)
        return self._tell(letter["letter"])

    def wait(self, seconds: float) -> None:
        """Until a task has ended, at most so long."""
        if not self._futures:
            time.sleep(seconds)
        wait(self._futures.values(), seconds, FIRST_COMPLETED)

    def leave(self) -> None:
        """End the processes, at once, and say so."""
        self._processes.kill()
        self._futures.clear()
        if not self.over:
            self._tell(0, left=True)

    def _drop_others(self, wanted: Iterable[str]) -> None:
        """Forget what rank 0 no longer waits for; a task that runs already is let run to its end."""
        self._ended &= set(wanted)
        for task in [task for task in self._futures if task not in wanted]:
            if self._futures[task].cancel():
                del self._futures[task]

    def _tell(self, letter: int, left: bool = False) -> bool:
        state = {
            "letter": letter, "workers": self._processes.workers, "left": left,
            "tasks": sorted(self._futures), "ended": sorted(self._ended),
        }  # fmt: skip
        news = state != self._told
        if news or _seconds() - self._told_at > self._stale_seconds / BEATS:
            self._beat += 1
            put_state(self._folder / f"from-{self._name}.json", state | {"beat": self._beat})
            self._told, self._told_at = state, _seconds()
        return news


def _seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine is suspended
