"""What a stage is, what it is given, and how its result gets to where it belongs."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from base import storage
from base.progress import progress
from data_prep.executors.executor import Executor
from data_prep.schema import DataConfiguration

UPLOADS = 8  # at a time


@dataclass(frozen=True)
class Job:
    """One run of data preparation.

    Attributes:
        work: local folder for the steps between; ``docs/operations.md`` says what lies there and for what.
        local: where the files for ``out`` are made: ``out`` itself when it is local, a folder in ``work`` otherwise.
    """

    configuration: DataConfiguration
    work: Path
    local: Path
    out: str
    executor: Executor

    @property
    def publishes(self) -> bool:
        """Whether ``out`` is elsewhere, so that finished files must be sent there."""
        return storage.is_remote(self.out)

    def marker(self, stage: str) -> dict[str, Any]:
        """What is noted of a stage that is done: its key, its summary, its files; empty when it is not done."""
        try:
            return json.loads((self.work / "done" / f"{stage}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def forget(self, stage: str) -> None:
        """Have a stage done again by the next run."""
        (self.work / "done" / f"{stage}.json").unlink(missing_ok=True)

    @contextmanager
    def building(self, name: str) -> Iterator[Path]:
        """An empty folder beside ``local/name`` that takes its place when the block ends well."""
        final, aside = self.local / name, self.local / f".{name}.building"
        remove(aside)
        aside.mkdir(parents=True)
        try:
            yield aside
            for left in aside.rglob(".*"):  # of a task whose machine was lost while it wrote; another one did it
                remove(left)
            remove(final)
            aside.rename(final)
        finally:
            remove(aside)


@dataclass(frozen=True)
class Stage:
    """A step from files to files.

    Attributes:
        needs: the stages whose files it reads.
        depends_on: everything (as JSON) that decides its result, besides what the needed stages decide.
        run: does the work and returns a summary (as JSON); may be killed at any moment and started again.
        outputs: files and folders below ``out`` that it makes.
        scratch: folders below ``work`` that it makes for later stages.
        always: run it even when its result is there.
        result: from its summary, what the stages that need it depend on; None: on all that it depends on itself.
    """

    name: str
    needs: tuple[str, ...]
    depends_on: Callable[[Job], Any]
    run: Callable[[Job], dict[str, Any]]
    outputs: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    always: bool = False
    result: Callable[[dict[str, Any]], Any] | None = None


def digest(value: Any) -> str:
    """A short name for anything that JSON can hold: the same value, the same name."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def versions(*packages: str) -> dict[str, str]:
    """Of packages that decide what a stage writes: another release may do it otherwise, and must not go on with what
    this one began."""
    return {name: metadata.version(name) for name in packages}


def remove(path: Path) -> None:
    """Delete a file or a folder of ours; nothing happens when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(job: Job, names: tuple[str, ...]) -> None:
    """Delete what a killed run has left half-written where it made these files and folders."""
    for name in names:
        for left in (*job.local.glob(f".{name}.*.part"), job.local / f".{name}.building"):
            remove(left)


def discard(folder: Path) -> None:
    """Delete a folder whose files tell the next run what is done: a kill on the way must not leave a part of them."""
    gone = folder.with_name(f"{folder.name}-gone")
    remove(gone)
    folder.rename(gone)
    remove(gone)


def sizes(root: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Bytes of every file in these files and folders below ``root``."""
    found: dict[str, int] = {}
    for name in names:
        if (root / name).is_file():
            found[name] = (root / name).stat().st_size
        else:
            found |= {f"{name}/{inner}": size for inner, size in storage.list_files(str(root / name)).items()}
    return found


@dataclass(frozen=True)
class Unsent:
    """What lies in ``out`` otherwise than here: ``missing`` there, or another; ``surplus`` there."""

    missing: list[str]
    surplus: list[str]


def unsent(job: Job, names: tuple[str, ...]) -> Unsent:
    """Compare files and folders in ``out`` with those made here, by size and by the list of what was sent."""
    there = {
        name if inner == "" else f"{name}/{inner}": size
        for name in names
        for inner, size in _listing(storage.join(job.out, name)).items()
    }
    here = sizes(job.local, names)
    sent = {tuple(json.loads(line)) for line in _lines(_journal(job, names))}
    missing = [name for name in here if _stamp(job, name) not in sent or there.get(name) != here[name]]
    return Unsent(missing, [name for name in there if name not in here])


def publish(job: Job, names: tuple[str, ...]) -> None:
    """Send a stage's files to ``out``: whatever else lies in these folders goes first, each ``index.json`` comes last.

    A list of what has arrived is kept, so that a run that was cut off, or whose sending failed, does not send
    everything again.

    Raises:
        UserError: the place cannot be reached, or refuses; what has arrived stays there and is noted.
    """
    found = unsent(job, names)
    indexes = [name for name in sizes(job.local, names) if name.endswith("index.json")]
    last = indexes if found.missing else []
    first = [name for name in found.missing if name not in last]
    for name in (*found.surplus, *last):
        storage.delete(storage.join(job.out, name))
    total = sum((job.local / name).stat().st_size for name in (*first, *last))
    journal = _journal(job, names)
    journal.parent.mkdir(parents=True, exist_ok=True)
    with progress(f"send to {job.out}", total, "bytes") as advance, open(journal, "a", encoding="utf-8") as file:
        for group in (first, last):
            for name in _sent_as_they_arrive(job, group):
                file.write(json.dumps(_stamp(job, name)) + "\n")
                file.flush()
                advance((job.local / name).stat().st_size)


def _sent_as_they_arrive(job: Job, names: list[str]) -> Iterator[str]:
    """Send files, several at a time; the first failure is raised when those under way have ended."""
    with ThreadPoolExecutor(UPLOADS) as pool:
        sending = {pool.submit(storage.upload, job.local / name, storage.join(job.out, name)): name for name in names}
        failure: BaseException | None = None
        for future in as_completed(sending):
            if future.cancelled():
                continue
            if future.exception() is None:
                yield sending[future]
            elif failure is None:
                failure = future.exception()
                for other in sending:
                    other.cancel()
        if failure is not None:
            raise failure


def _journal(job: Job, names: tuple[str, ...]) -> Path:
    return job.work / "done" / f"{names[0]}.sent.jsonl"


def _stamp(job: Job, name: str) -> tuple[str, int, int]:
    status = (job.local / name).stat()
    return (name, status.st_size, status.st_mtime_ns)


def _listing(location: str) -> dict[str, int]:
    size = storage.size(location)
    return {"": size} if size is not None else storage.list_files(location)


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in text.splitlines() if line.endswith("]")]  # the last one may be cut off
