"""Checkpoints that are whole or not there: copied, then written and uploaded beside the training, manifest last.

Composer's own CheckpointSaver is not used: training waits while it writes, it starts worker processes that import
torch, keeps every local copy, and leaves a newest checkpoint behind that may lack files (facts measured with 0.32.1).
The files here are those that it would write, in the same layout.
"""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State
from composer.core import Event
from composer.utils import create_interval_scheduler, dist

from base import storage
from base.errors import MayPass, StoreTrouble, UserError
from base.progress import say
from model.checkpoint import (
    TOKENIZER_FILES,
    DamagedCheckpoint,
    delete_checkpoint,
    list_checkpoints,
    read_manifest,
    set_aside,
    superfluous,
    write_manifest,
)
from recipes.snapshot import Snapshot, take
from recipes.together import together

LONGEST_PAUSE = 5.0  # seconds between two looks for the other ranks' files
LAYOUT = "ep{epoch}-ba{batch}"
PART = "manifest.{rank}.json"  # what a rank has uploaded; gone once the manifest is there


class SaveCheckpoints(Callback):
    """Save at an interval, when told to, and at the end of training.

    Training waits while the ranks copy their parts of the state into host memory, and for the upload of the checkpoint
    before when it has not ended (``checkpoint/seconds_waited``). Writing to ``staging``, hashing and uploading run
    beside it (``checkpoint/seconds_uploading``, rank 0's, logged with the next save).

    Attributes:
        notes: what others have to say in the manifest: by key what gives it, as JSON, when a checkpoint is made.

    Args:
        folder: where the checkpoints go, local or s3://.
        interval: ``1000ba``, ``1800sec``, ``1ep`` … as Composer's save_interval.
        staging: a local folder on each node; a checkpoint lies there until it is uploaded.
        about: what the manifests say of the run: ``model`` (the shape), ``trained_with``, ``run_id``.
        tokenizer: a local folder whose files go into each checkpoint, so that it can be used alone.
        keep: number of whole checkpoints to keep in ``folder``, the newest; -1 keeps all.
        keep_every: tokens; of every so many the first checkpoint is kept, too.
        timeout: seconds in which a checkpoint must be up, those of the other ranks included.
    """

    def __init__(
        self,
        folder: str,
        interval: str,
        staging: Path,
        about: dict[str, Any],
        tokenizer: Path,
        keep: int,
        keep_every: int | None,
        timeout: float,
    ):
        self.folder, self.staging, self.tokenizer = folder, staging, tokenizer
        self.notes: dict[str, Callable[[], Any]] = {}
        self.about = about
        self.keep, self.keep_every, self.timeout = keep, keep_every, timeout
        self.due = create_interval_scheduler(interval)
        self.last_saved = -1
        self.tokens: dict[str, int] = {}  # of the whole checkpoints, by location; rank 0's
        self.upload: Future[float] | None = None
        self.uploader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="upload")

    def fit_start(self, state: State, logger: Logger) -> None:
        if dist.get_local_rank() == 0:
            shutil.rmtree(self.staging, ignore_errors=True)  # what a killed run had not uploaded
        self.last_saved = state.timestamp.batch.value  # that checkpoint is there: we come from it
        together(self._take_over)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.due(state, Event.BATCH_CHECKPOINT):
            self.save(state, logger)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.due(state, Event.EPOCH_CHECKPOINT):
            self.save(state, logger)

    def fit_end(self, state: State, logger: Logger) -> None:
        self.finish_upload()

    def post_close(self) -> None:
        self.uploader.shutdown(wait=True)

    def save(self, state: State, logger: Logger) -> None:
        """Write a checkpoint of the state and begin to upload it; all ranks together."""
        batch = state.timestamp.batch.value
        if batch == self.last_saved:
            return
        self.last_saved = batch
        start = time.monotonic()
        uploading = self.finish_upload()  # the one before: never two copies in the node's memory, or on its disk
        waited_for_upload = time.monotonic() - start
        name = LAYOUT.format(epoch=state.timestamp.epoch.value, batch=batch)
        place = storage.join(self.folder, name)
        local = self.staging / f"{name}-rank{dist.get_global_rank()}"  # of its own: each removes its own when it is up
        together(partial(_make_folder, local))
        snapshot = take(state, local)
        together(partial(self._clear, place))  # of a damaged checkpoint, or of another process that was cut off
        manifest = {
            "format": 2,
            "epoch": state.timestamp.epoch.value,
            "batch": batch,
            "token": state.timestamp.token.value,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "world_size": dist.get_world_size(),
            **self.about,
            **{name: note() for name, note in self.notes.items()},
        }
        self.upload = self.uploader.submit(self._upload, snapshot, place, manifest)
        logger.log_metrics(
            {
                "checkpoint/seconds_waited": time.monotonic() - start,
                "checkpoint/seconds_waited_for_upload": waited_for_upload,
                **({"checkpoint/seconds_uploading": uploading} if uploading is not None else {}),
            }
        )

    def finish_upload(self) -> float | None:
        """Wait until the last checkpoint is whole; the seconds that its upload took, or None when there was none.

        Raises:
            UserError: on every rank, when it failed on any.
        """
        return together(self.wait_for_upload)

    def wait_for_upload(self) -> float | None:
        """As :meth:`finish_upload`, on this rank alone."""
        upload, self.upload = self.upload, None
        return upload.result() if upload is not None else None

    def has_failed(self) -> bool:
        """Whether an upload has, on this rank; finish_upload says why."""
        return self.upload is not None and self.upload.done() and self.upload.exception() is not None

    def _clear(self, place: str) -> None:
        """What lies there could be taken for uploaded before it is."""
        if dist.get_global_rank() == 0:
            delete_checkpoint(place)
            self.tokens.pop(place, None)

    def _upload(self, snapshot: Snapshot, place: str, manifest: dict[str, Any]) -> float:
        """In the uploading thread: this rank's part; on rank 0, then, what makes a checkpoint of all of them."""
        start = time.monotonic()
        deadline = start + self.timeout
        try:
            self._send_part(snapshot, place, deadline)
            if dist.get_global_rank() == 0:
                self._make_whole(snapshot, place, manifest, deadline)
        finally:
            shutil.rmtree(snapshot.folder, ignore_errors=True)
        return time.monotonic() - start

    def _send_part(self, snapshot: Snapshot, place: str, deadline: float) -> None:
        """This rank's files and, last, their list; or why not, so that rank 0 need not wait for what will not come."""
        part = storage.join(place, PART.format(rank=dist.get_global_rank()))
        try:
            written = snapshot.write()
            files = _send(sorted({snapshot.folder / file for _, _, file, _, _ in written}), place, deadline)
        except UserError as error:
            about = {"fault": str(error), "may_pass": isinstance(error, MayPass)}
            with suppress(UserError):
                storage.write_bytes(part, json.dumps(about).encode())
            raise
        storage.write_bytes(part, json.dumps({"files": files, "written": written}).encode())

    def _make_whole(self, snapshot: Snapshot, place: str, manifest: dict[str, Any], deadline: float) -> None:
        names = [PART.format(rank=rank) for rank in range(manifest["world_size"])]
        parts = self._wait_for_parts(place, names, deadline)
        metadata = snapshot.write_metadata([row for part in parts for row in part["written"]])
        tokenizer = [self.tokenizer / name for name in TOKENIZER_FILES if (self.tokenizer / name).exists()]
        files = {name: about for part in parts for name, about in part["files"].items()}
        files |= _send([metadata, *tokenizer], place, deadline)
        _require_there(place, files)
        write_manifest(place, {**manifest, "files": files})
        for name in names:
            storage.delete(storage.join(place, name))
        self.tokens[place] = manifest["token"]
        self._remove_old()

    def _wait_for_parts(self, place: str, names: list[str], deadline: float) -> list[dict[str, Any]]:
        parts: dict[str, dict[str, Any]] = {}
        pause = 0.05
        while True:
            for name in sorted(storage.list_files(place).keys() & set(names) - parts.keys()):
                parts[name] = json.loads(storage.read_bytes(storage.join(place, name)))
                if "fault" in parts[name]:
                    raise (MayPass if parts[name]["may_pass"] else UserError)(parts[name]["fault"])
            missing = [name for name in names if name not in parts]
            if not missing:
                return [parts[name] for name in names]
            if time.monotonic() > deadline:
                raise MayPass(
                    f"{place}: ranks {', '.join(name.split('.')[1] for name in missing)} have not uploaded "
                    f"their files within {self.timeout:.0f} s; the checkpoint is not whole"
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _take_over(self) -> None:
        """Know what is in the folder; remove what a killed process had not finished.

        What is newer than the checkpoint that we come from was damaged, or belongs to what a guard has left out. It is
        set aside: it must neither be gone on from nor count as one of those to keep.
        """
        if dist.get_global_rank() != 0:
            return
        for found in list_checkpoints(self.folder):
            if found.whole and found.batch > self.last_saved:
                set_aside(found.location)
                say(f"{found.location}: set aside")
            elif found.whole:
                with suppress(DamagedCheckpoint):
                    self.tokens[found.location] = read_manifest(found.location)["token"]
            elif not found.set_aside:
                delete_checkpoint(found.location)
        try:
            storage.abort_uploads(self.folder)
        except StoreTrouble:
            raise
        except UserError as error:  # a right that a run can do without
            say(f"unfinished uploads of killed runs cannot be looked for: {error}")

    def _remove_old(self) -> None:
        by_age = dict(sorted(self.tokens.items(), key=lambda one: one[1]))
        for place in superfluous(by_age, self.keep, self.keep_every):
            delete_checkpoint(place)
            del self.tokens[place]


def _send(files: list[Path], place: str, deadline: float) -> dict[str, dict[str, Any]]:
    """Size and sha256 by name. Training goes on meanwhile, so there is more patience than storage has."""
    about = {}
    for file in files:
        try:
            about[file.name] = {"size": file.stat().st_size, "sha256": storage.sha256(file)}
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
        while True:
            try:
                storage.upload(file, storage.join(place, file.name))
                break
            except StoreTrouble:
                if time.monotonic() > deadline:
                    raise
    return about


def _require_there(place: str, files: dict[str, Any]) -> None:
    """Another process that has begun in the same folder meanwhile has removed what was not whole yet."""
    there = storage.list_files(place)
    gone = [name for name, about in files.items() if there.get(name) != about["size"]]
    if gone:
        raise MayPass(f"{place}: {gone[0]} is gone since it was uploaded; does another run save into the same folder?")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage.disk_error(folder, error) from error
