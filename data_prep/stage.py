"""What a stage is, what it is given, and how its result gets to where it belongs."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
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
        work: local folder for the steps between; nothing in it is needed once the run has ended.
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
    """

    name: str
    needs: tuple[str, ...]
    depends_on: Callable[[Job], Any]
    run: Callable[[Job], dict[str, Any]]
    outputs: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    always: bool = False


def digest(value: Any) -> str:
    """A short name for anything that JSON can hold: the same value, the same name."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:24]


def remove(path: Path) -> None:
    """Delete a file or a folder of ours; nothing happens when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sizes(root: Path, names: tuple[str, ...]) -> dict[str, int]:
    """Bytes of every file in these files and folders below ``root``."""
    found: dict[str, int] = {}
    for name in names:
        if (root / name).is_file():
            found[name] = (root / name).stat().st_size
        else:
            found |= {f"{name}/{inner}": size for inner, size in storage.list_files(str(root / name)).items()}
    return found


def publish(job: Job, names: tuple[str, ...]) -> None:
    """Send a stage's files to ``out``: whatever else lies in these folders goes first, each ``index.json`` comes last.

    A list of what has arrived is kept, so that a run that was cut off does not send everything again.
    """
    there = {
        name if inner == "" else f"{name}/{inner}": size
        for name in names
        for inner, size in _listing(storage.join(job.out, name)).items()
    }
    here = sizes(job.local, names)
    journal = job.work / "done" / f"{names[0]}.sent.jsonl"
    sent = {tuple(json.loads(line)) for line in _lines(journal)}
    stamp = {name: (name, size, (job.local / name).stat().st_mtime_ns) for name, size in here.items()}
    missing = [name for name in here if stamp[name] not in sent or there.get(name) != here[name]]
    for name in there:
        if name not in here or (missing and name.endswith("index.json")):
            storage.delete(storage.join(job.out, name))
    last = [name for name in here if name.endswith("index.json") and (missing or name in missing)]
    first = [name for name in missing if name not in last]
    journal.parent.mkdir(parents=True, exist_ok=True)
    with progress(f"send to {job.out}", sum(here[name] for name in (*first, *last)), "bytes") as advance:

        def send(name: str) -> str:
            storage.upload(job.local / name, storage.join(job.out, name))
            return name

        with ThreadPoolExecutor(UPLOADS) as pool, open(journal, "a", encoding="utf-8") as file:
            for group in (first, last):
                for name in pool.map(send, group):
                    file.write(json.dumps(stamp[name]) + "\n")
                    file.flush()
                    advance(here[name])


def _listing(location: str) -> dict[str, int]:
    size = storage.size(location)
    return {"": size} if size is not None else storage.list_files(location)


def _lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [line for line in text.splitlines() if line.endswith("]")]  # the last one may be cut off
