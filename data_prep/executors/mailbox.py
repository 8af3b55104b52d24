"""Files through which the ranks of a run speak: ``work/ranks/``.

===============================  ==================================================================================
run.json                         rank 0: the run, a count that goes up while rank 0 lives, how the run stands
RUN/from-MEMBER.json             that member: a count that goes up while it lives, its tasks, those that have ended
RUN/to-MEMBER.json               rank 0: the tasks that this member shall have
RUN/task-MEMBER-TASK             rank 0: a function with its task, pickled
RUN/result-MEMBER-TASK           that member: what came of it, pickled
===============================  ==================================================================================

Each file has one writer, is replaced whole, and tells a state, not an event: whoever reads late, or twice, reads what
is true. So nothing rests on locks, on exclusive creation, or on the listing of folders being fresh, all of which are
weak on network file systems; opening a file by its name shows its newest content there too. Nor are the clocks of two
machines compared: who lives is told by a count that goes up, timed by the clock of the one who looks.

Tasks and results are pickled: who can write there can run code as the user who runs the ranks, as he could by changing
the project. ``ranks`` is open to its owner alone; keep the work folder around it your own, too.
"""

import errno
import json
import pickle
import time
from pathlib import Path
from typing import Any

from base import storage

RUN = "run.json"
GOING, DONE, FAILED = "going", "done", "failed"
BEATS = 12  # of a count, in the time after which its writer is taken for dead
POLL_SECONDS = (0.05, 1.0)  # between two looks: while things happen, and when nothing does


def put_state(path: Path, state: dict[str, Any]) -> None:
    """Replace a state."""
    storage.write_bytes(str(path), json.dumps(state).encode())


def get_state(path: Path) -> dict[str, Any] | None:
    """The state as it is now; None when there is none."""
    while True:
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.ESTALE:  # NFS: replaced by another machine between opening and reading
                raise


def put_object(path: Path, value: Any) -> None:
    """Write a task or a result."""
    storage.write_bytes(str(path), pickle.dumps(value))


def get_object(path: Path) -> Any:
    """Read a task or a result. Raises FileNotFoundError."""
    return pickle.loads(path.read_bytes())  # noqa: S301 (see the module's docstring)


class Pulse:
    """Whether somebody's count still goes up; ``seconds`` without that, and he is dead."""

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._last: Any = None
        self._since = time.monotonic()

    def beats(self, count: Any) -> bool:
        """Tell what the count is now."""
        if count != self._last:
            self._last, self._since = count, time.monotonic()
        return time.monotonic() - self._since < self._seconds


class Pace:
    """How long to wait before the next look."""

    def __init__(self) -> None:
        self.seconds = POLL_SECONDS[0]

    def after(self, something_happened: bool) -> float:
        """Seconds to wait now."""
        self.seconds = POLL_SECONDS[0] if something_happened else min(1.4 * self.seconds, POLL_SECONDS[1])
        return self.seconds
