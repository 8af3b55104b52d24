"""Rank 0 of the ranks of a Slurm array, or of any processes that share a work folder: it runs the stages, and has the
other ranks (:mod:`data_prep.executors.serve`) do tasks beside its own processes. They may come late or never."""

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, TypeVar

from base.errors import UserError
from base.progress import say
from data_prep.executors.attempt import Outcome
from data_prep.executors.local import LocalProcesses
from data_prep.executors.mailbox import (
    BEATS,
    DONE,
    FAILED,
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

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 2  # tasks given out for each worker, so that none waits for the next


class SharedFolder:
    """The processes of all ranks.

    Args:
        folder: of the ranks, in the work folder; what earlier runs left there is deleted.
        workers: processes of rank 0; None for one on each CPU.
        stale_seconds: a rank that gives no sign of life for so long is dead, and its tasks go to others.
        settings: the digest of the configuration; ranks with another one are refused.
        job: the Slurm job that all ranks belong to, if any.
        places: what all ranks must see; marked by this class.
    """

    def __init__(
        self, folder: Path, workers: int | None, stale_seconds: float, settings: str, job: str | None, places: Places
    ):
        self._processes = LocalProcesses(workers)
        self._folder = folder / places.run
        self._stale_seconds = stale_seconds
        self._places = places
        self._members: dict[str, _Member] = {}
        self._gone: set[str] = set()
        self._round = 0
        self._state: dict[str, Any] = {
            "run": places.run, "here": places.here, "written": places.written, "read": places.read,
            "settings": settings, "job": job, "stands": GOING, "beat": 0,
        }  # fmt: skip
        places.mark()
        shutil.rmtree(folder, ignore_errors=True)  # a rank of a killed run may put its last word there meanwhile
        self._folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # what lies in it is unpickled
        self._state_file = folder / RUN
        self._ended = threading.Event()
        put_state(self._state_file, self._state)
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], at_most: int | None = None
    ) -> Iterator[tuple[int, R]]:
        """See :class:`data_prep.executors.executor.Executor`."""
        self._round += 1
        most = at_most or len(tasks)
        own: dict[Future[Outcome[R]], int] = {}
        left = deque(range(len(tasks)))
        pace, next_look = Pace(), 0.0
        try:
            while left or own or any(member.has for member in self._members.values()):
                if time.monotonic() >= next_look:
                    heard = self._hear(left)
                    next_look = time.monotonic() + pace.after(bool(heard))
                    for index, outcome in heard:
                        yield index, outcome.get()
                out = len(own) + sum(len(member.has) for member in self._members.values())
                for depth in range(1, AHEAD + 1):  # all have their first tasks before one has its second
                    while left and out < most and len(own) < depth * self._processes.workers:
                        index = left.popleft()
                        own[self._processes.submit(function, tasks[index])] = index
                        out += 1
                    for member in self._members.values():
                        while left and out < most and len(member.has) < depth * member.workers:
                            index = left.popleft()
                            member.give(f"{self._round}-{index}", index, (function, tasks[index]))
                            out += 1
                for member in self._members.values():
                    member.tell()
                seconds = max(0.0, next_look - time.monotonic())
                if not own:
                    time.sleep(seconds)
                for future in wait(own, seconds, FIRST_COMPLETED).done:
                    yield own.pop(future), self._processes.outcome(future).get()
        finally:
            if own:
                self._processes.close()
            self._take_back()

    def close(self, well: bool = False) -> None:
        """End the processes here, and tell the other ranks how the run has ended."""
        self._ended.set()
        self._heart.join()
        self._processes.close()
        put_state(self._state_file, self._state | {"stands": DONE if well else FAILED})
        self._places.unmark()

    def _beat(self) -> None:
        while not self._ended.wait(self._stale_seconds / BEATS):
            self._state["beat"] += 1
            try:
                put_state(self._state_file, self._state)
            except UserError as error:  # as a full disk: the tasks will meet it too; the next beat may get through
                say(f"rank 0 cannot be heard by the others: {error}")

    def _hear(self, left: deque[int]) -> list[tuple[int, Outcome[Any]]]:
        """What has come from the other ranks; the tasks of those that are dead go back to ``left``."""
        for file in self._folder.glob("from-*.json"):
            name = file.stem.removeprefix("from-")
            if name not in self._members and name not in self._gone:
                self._members[name] = _Member(self._folder, name, self._stale_seconds)
                say(f"rank {name} has come")
        outcomes = []
        for name, member in list(self._members.items()):
            outcomes += member.ended()
            if not member.lives:
                left.extendleft(sorted(member.has.values(), reverse=True))
                member.dismiss()
                self._gone.add(self._members.pop(name).name)
                why = "has left" if member.left else f"has given no sign of life for {self._stale_seconds:g} s"
                say(f"rank {name} {why}; others do its tasks")
        return outcomes

    def _take_back(self) -> None:
        """Have the other ranks drop their tasks; returns when none runs any more."""
        pace = Pace()
        for member in self._members.values():
            member.has.clear()
            member.tell()
        while any(member.lives and not member.idle() for member in self._members.values()):
            time.sleep(pace.after(False))


class _Member:
    """Another rank, as rank 0 sees it."""

    def __init__(self, folder: Path, name: str, stale_seconds: float):
        self.name = name
        self.has: dict[str, int] = {}  # name of a task → its index
        self.workers = 0
        self.lives, self.left = True, False
        self._folder = folder
        self._pulse = Pulse(stale_seconds)
        self._told: list[str] = []
        self._letters = 0

    def give(self, task: str, index: int, what: Any) -> None:
        put_object(self._folder / f"task-{self.name}-{task}", what)
        self.has[task] = index

    def tell(self) -> None:
        """Write down what it shall have, if that has changed."""
        if list(self.has) != self._told:
            self._told = list(self.has)
            self._letters += 1
            put_state(self._folder / f"to-{self.name}.json", {"letter": self._letters, "tasks": self._told})

    def ended(self) -> list[tuple[int, Outcome[Any]]]:
        """The results that it has for us."""
        state = self._heard()
        outcomes = []
        for task in state["ended"]:
            if task in self.has:
                result = self._folder / f"result-{self.name}-{task}"
                outcomes.append((self.has.pop(task), get_object(result)))
                result.unlink()
                (self._folder / f"task-{self.name}-{task}").unlink()
        return outcomes

    def idle(self) -> bool:
        """Whether it has read the last letter and is at no task."""
        state = self._heard()
        return state["letter"] == self._letters and not state["tasks"]

    def dismiss(self) -> None:
        """It is taken for dead; should it not be, it must drop everything."""
        put_state(self._folder / f"to-{self.name}.json", {"dismissed": True})

    def _heard(self) -> dict[str, Any]:
        state = get_state(self._folder / f"from-{self.name}.json")
        assert state is not None, self.name  # nobody deletes it
        self.workers = state["workers"]
        self.left = state["left"]
        self.lives = self._pulse.beats(state["beat"]) and not self.left
        return state
