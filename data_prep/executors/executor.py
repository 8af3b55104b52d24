"""The face of whatever runs tasks. The stages know only this, and an executor knows nothing of what it runs.

A task is a small description that can be pickled (paths and settings, never data); its function is a module-level one
that writes its own files and returns a small result. A machine that is lost gives its tasks to others while it may
still be writing, so **one task can run twice at the same time**. This must be harmless: a task writes aside, under a
name that no other process uses (:func:`base.storage.write_aside`), moves the file into place, and gives the same bytes
each time. Then what a run writes does not depend on who does what.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Runs one function over many tasks."""

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], at_most: int | None = None
    ) -> Iterator[tuple[int, R]]:
        """Yield (index of the task, its result) as they end, in any order; ``at_most`` so many at a time.

        The first exception of a task ends everything and is raised here, when no other task runs any more.
        """
        ...

    def close(self) -> None:
        """Give back what was taken to run tasks."""
        ...
