"""The node-local cache of shards: one run at a time, and nothing of a killed run stands in the way.

Streaming keeps a table of the caches in use in shared memory. A killed run leaves its entry there, and the next run on
the same cache is refused (streaming issues 717, 781, 824). A file lock tells a dead owner from a live one.
"""

import fcntl
import os
import tempfile
import time
from pathlib import Path
from typing import IO

from base import storage
from base.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
WAIT_SECONDS = 20.0  # the loader workers of a killed run notice within 5 seconds


def claim_cache(local: str) -> IO[str]:
    """Lock the cache folder for this process and remove what dead owners of it left in shared memory.

    Called on each node by its first rank, before any dataset is made. The lock holds while the returned file is open.

    Raises:
        UserError: a live run uses the same cache.
    """
    Path(local).mkdir(parents=True, exist_ok=True)
    lock = (Path(local) / ".in-use").open("w", encoding="utf-8")
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"train_loader.dataset.local: {local} is in use by another run on this machine; give each its own"
                ) from None
            time.sleep(0.5)
    for table in SHARED_MEMORY.glob("*_locals"):
        if _names(table, os.path.abspath(local)):
            _remove_segments(table.name.split("_")[0])
    return lock


def require_space(local: str, shard_bytes: int) -> None:
    """Raise UserError when a cache without a limit will not hold all shards on this node's disk."""
    there = sum(file.stat().st_size for file in Path(local).rglob("*.mds"))
    free = storage.free_bytes(local)
    if shard_bytes - there > free:
        raise UserError(
            f"train_loader.dataset.local: {local} needs {(shard_bytes - there) / 1e9:.3f} GB more for the shards, and "
            f"{free / 1e9:.3f} GB are free there; make room, take another disk, or set train_loader.dataset.cache_limit"
        )


def _names(table: Path, local: str) -> bool:
    """Whether Streaming's table of local folders (zero-separated after a 4-byte length) has one within ``local``."""
    try:
        folders = table.read_bytes()[4:].decode("utf-8", errors="replace").split("\0")
    except OSError:  # somebody else's, or gone by now
        return False
    absolute = ("/" + folder.lstrip("/") for folder in folders if folder)
    return any(folder == local or folder.startswith(local + "/") for folder in absolute)


def _remove_segments(prefix: str) -> None:
    for folder in (SHARED_MEMORY, Path(tempfile.gettempdir())):  # the locks beside the segments lie in the latter
        for leftover in folder.glob(f"{prefix}_*"):
            leftover.unlink(missing_ok=True)
