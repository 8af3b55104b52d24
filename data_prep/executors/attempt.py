"""One task tried: its result, or its exception in a form that can travel to another process or machine."""

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")


class TaskFailed(Exception):
    """Stands for an exception that cannot be pickled: its type and text, with its traceback as a note."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What came of a task."""

    result: R | None
    error: Exception | None = None

    def get(self) -> R:
        """The result; raises the task's own exception, which carries the traceback of where it was raised."""
        if self.error is not None:
            raise self.error
        return cast(R, self.result)


def attempt(function: Callable[[T], R], task: T, where: str = "a worker process") -> Outcome[R]:
    """Do a task. An exception does not leave this function: pools and clusters each wrap exceptions in their own way,
    and one that cannot be unpickled would break the pool, as though a process had been killed."""
    try:
        return Outcome(function(task))
    except Exception as error:
        return Outcome(None, _portable(error, f"raised in {where}:\n{traceback.format_exc()}"))


def _portable(error: Exception, note: str) -> Exception:
    portable: Any = error
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (what was pickled in this line)
    except Exception:
        portable = TaskFailed(f"{type(error).__name__}: {error}")
    portable.add_note(note)
    return portable
