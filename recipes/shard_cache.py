"""The node-local caches of shards: one run at a time, and nothing of a killed run stands in the way.

Streaming keeps a table of the caches in use in shared memory, one for each dataset. A killed run leaves its table
there, and the next run on the same cache is refused (streaming issues 717, 781, 824). A file lock in each cache folder
tells a dead owner from a live one.
"""

import fcntl
import itertools
import secrets
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from composer.utils import dist
from streaming.base.shared import prefix as streaming_numbers

from base import storage
from base.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
NUMBERS = 900_000  # of segments; they have six digits
LOCK = ".in-use"
WAIT_SECONDS = 20.0  # the loader workers of a killed run notice within 5 seconds


def claim_caches(folders: Iterable[str]) -> ExitStack:
    """Lock the cache folders for this process and remove what dead owners of them left in shared memory.

    Called on each node by its first rank, before any dataset is made. The locks hold until the result is closed.

    Raises:
        UserError: a live run uses one of them, or a folder within or around one; or it cannot be written to.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    ours = {Path(folder).absolute() for folder in folders}
    with ExitStack() as locks:
        for folder in sorted(ours):
            try:
                folder.mkdir(parents=True, exist_ok=True)
                _lock(folder, locks, deadline)
            except OSError as error:
                raise storage.disk_error(folder, error) from error
        for folder in ours:
            for other in _claimed_around(folder) - ours:
                _require_free(other, folder, deadline)
        for table in SHARED_MEMORY.glob("*_locals"):
            if any(_is_within(cache, folder) for cache in _caches_of(table) for folder in ours):
                _remove_segments(table.name.split("_")[0])
        return locks.pop_all()


def number_segments_apart() -> None:
    """Have Streaming number its segments from where the ranks of this run have drawn, before any dataset is made.

    It takes the first number that is free from 0, and each rank looks for itself. When another run on this machine
    begins or ends meanwhile, two runs take the same, or two ranks of one run different ones, and a run ends.
    """
    first = dist.all_gather_object(secrets.randbelow(NUMBERS))[0]
    streaming_numbers._each_prefix_int = lambda: itertools.count(first)


def _try_lock(descriptor: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _lock(folder: Path, locks: ExitStack, deadline: float, mode: str = "a") -> None:
    lock = locks.enter_context((folder / LOCK).open(mode, encoding="utf-8"))
    while not _try_lock(lock.fileno()):
        if time.monotonic() > deadline:
            raise UserError(f"{folder} is in use by another run on this machine; give each its own cache (`local`)")
        time.sleep(0.5)


def _claimed_around(folder: Path) -> set[Path]:
    """Folders within and around a cache that have been claimed as caches, by somebody dead or alive."""
    within = {lock.parent for lock in folder.rglob(LOCK)}
    return within | {parent for parent in folder.parents if (parent / LOCK).exists()}


def _require_free(other: Path, folder: Path, deadline: float) -> None:
    """Wait until nobody holds a cache within or around one of ours; its segments could not be told from ours."""
    try:
        with ExitStack() as locks:
            _lock(other, locks, deadline, mode="r")  # it may be somebody else's file
    except UserError as error:
        raise UserError(f"{error}, and not within or around another's: here it is {folder}") from None


def _caches_of(table: Path) -> list[Path]:
    """The folders in Streaming's table: zero-separated after a 4-byte length, with a number at the end."""
    try:
        folders = table.read_bytes()[4:].decode("utf-8", errors="replace").split("\0")
    except OSError:  # somebody else's, or gone by now
        return []
    return [Path("/" + folder.lstrip("/")) for folder in folders[:-1] if folder]


def _is_within(cache: Path, folder: Path) -> bool:
    return cache == folder or folder in cache.parents


def _remove_segments(prefix: str) -> None:
    for folder in (SHARED_MEMORY, Path(tempfile.gettempdir())):  # the locks beside the segments lie in the latter
        for leftover in folder.glob(f"{prefix}_*"):
            leftover.unlink(missing_ok=True)
