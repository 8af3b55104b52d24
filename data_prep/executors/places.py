"""What every machine of a run must see at the same path, and how a run that was killed is kept from writing on."""

import os
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from base import storage
from base.errors import UserError
from base.progress import say

MARK = ".shared-by-all-machines"
FENCE_SECONDS = 5.0  # in which the far workers of a killed run must see that there is a new one (they look each second)


@dataclass(frozen=True)
class Places:
    """Folders and files that a run needs on every machine, by absolute paths.

    Attributes:
        here: where the command was started: the code lies there, and relative paths begin there.
        written: folders that are written. Each holds a mark with the name of the run while the run lasts.
        read: files and folders of input.
        run: the name of this run; another start of the same command is another run.
    """

    here: str
    written: tuple[str, ...]
    read: tuple[str, ...]
    run: str

    @classmethod
    def of_new_run(cls, written: list[Path], read: list[Path]) -> "Places":
        """The places of a run that begins here and now."""
        folders = tuple(str(path.absolute()) for path in written)
        files = tuple(str(path.absolute()) for path in read if _holds_something(path))
        return cls(os.getcwd(), folders, files, uuid.uuid4().hex[:12])

    def mark(self) -> None:
        """Put the marks up. Where a killed run has left its own, wait until its far workers have ended themselves."""
        killed = any((Path(folder) / MARK).exists() for folder in self.written)
        for folder in self.written:
            storage.write_bytes(str(Path(folder) / MARK), self.run.encode())
        if killed:
            say(f"an earlier run here was killed: {FENCE_SECONDS:.0f} s for its workers on other machines to end")
            time.sleep(FENCE_SECONDS)

    def unmark(self) -> None:
        """Take the marks away."""
        for folder in self.written:
            (Path(folder) / MARK).unlink(missing_ok=True)

    def require_seen(self) -> None:
        """Check, on another machine, that everything is there. Raises UserError that names machine and place."""
        node = socket.gethostname()
        if not Path(self.here).is_dir():
            raise UserError(
                f"machine {node} has no folder {self.here}, where the command was started; "
                "the project must lie at the same path on all machines"
            )
        for folder in self.written:
            if self._mark_in(folder) != self.run:
                raise UserError(
                    f"machine {node} does not see the files that the first machine writes in {folder}; "
                    "out and work must lie on storage that all machines share, at the same path"
                )
        for place in self.read:
            if not _holds_something(Path(place)):
                raise UserError(f"machine {node} does not see the input {place}; it must be on all machines")

    def replaced(self) -> bool:
        """Whether another run has begun in the same folders: this one must write no more."""
        return any(self._mark_in(folder) not in (self.run, None) for folder in self.written)

    def _mark_in(self, folder: str) -> str | None:
        try:
            return (Path(folder) / MARK).read_text(encoding="ascii")
        except OSError:
            return None


def _holds_something(path: Path) -> bool:
    """Whether there is such a file, or a folder that is not empty as that of a missing mount would be."""
    if path.is_dir():
        with os.scandir(path) as entries:
            return next(entries, None) is not None
    return path.exists()
