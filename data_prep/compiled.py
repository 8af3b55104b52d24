"""Where numba keeps the loops that it has compiled: beside the source, or in the cache folder of this user."""

import os
from pathlib import Path

from base.errors import UserError


def require_place() -> None:
    """Tell before the work begins, and in words, what numba would tell in the middle of it.

    Raises:
        UserError: neither place can be written, and ``NUMBA_CACHE_DIR`` names no other.
    """
    source = Path(__file__).parent
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    if not os.environ.get("NUMBA_CACHE_DIR") and not (_writable(source) or _writable(cache)):
        raise UserError(
            f"neither {source} nor {cache} can be written, so that compiled code can be kept nowhere; "
            "set NUMBA_CACHE_DIR to a folder that can, the same for all runs"
        )


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which may have to be made itself."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return os.access(there, os.W_OK | os.X_OK)
