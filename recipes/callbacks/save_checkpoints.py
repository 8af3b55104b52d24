"""Checkpoints that are whole or not there: saved sharded by Composer, uploaded beside the training, manifest last.

Composer's own CheckpointSaver is not used: it starts worker processes that import torch, keeps every local copy, and
leaves a newest checkpoint behind that may lack files (facts measured with 0.32.1). The files that it would write are
written here by the same function of Composer, in the same layout.
"""

import json
import shutil
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State
from composer.core import Event
from composer.utils import checkpoint, create_interval_scheduler, dist
from torch.distributed.checkpoint import CheckpointException

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
from recipes.together import together

LONGEST_PAUSE = 5.0  # seconds between two looks for the other ranks' files
LAYOUT = "ep{epoch}-ba{batch}"
PART = "manifest.{rank}.json"  # what a rank has uploaded; gone once the manifest is there


class SaveCheckpoints(Callback):
    """Save at an interval, when told to, and at the end of training.

    Training waits while the ranks write their files to ``staging``, and for the upload of the checkpoint before when it
    has not ended (``checkpoint/seconds_waited``). Hashing and uploading run beside it
    (``checkpoint/seconds_uploading``, rank 0's, logged with the next save).

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
        uploading = self.finish_upload()  # the one before: never two copies on the node's disk
        waited_for_upload = time.monotonic() - start
        name = LAYOUT.format(epoch=state.timestamp.epoch.value, batch=batch)
        local, place = self.staging / name, storage.join(self.folder, name)
        mine = self._write(state, local)
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
        self.upload = self.uploader.submit(self._upload, local, place, mine, manifest)
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
        try:
            return upload.result() if upload is not None else None
        except OSError as error:
            raise UserError(f"{self.staging}: cannot be read: {error.strerror or error}") from error

    def _write(self, state: State, local: Path) -> list[str]:
        """Write this rank's files; returns their names. A disk that is full ends all ranks together."""
        together(partial(_make_folder, local))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # torch's own use of it
                checkpoint.save_checkpoint(state, filename=str(self.staging / "{rank}"))  # into LAYOUT, below it
        except CheckpointException as error:  # no Exception; torch raises it on every rank, whichever failed
            reason = _reason_of_the_disk(error)
            if reason is None:
                raise
            raise UserError(f"{local}: cannot write the checkpoint: {reason}", shared=True) from None
        together(partial(self._add_tokenizer, local))
        rank = dist.get_global_rank()
        return sorted(
            file.name
            for file in local.iterdir()
            if file.name.startswith(f"__{rank}_") or (rank == 0 and not file.name.startswith("__"))
        )

    def _add_tokenizer(self, local: Path) -> None:
        if dist.get_global_rank() != 0:
            return
        try:
            for name in TOKENIZER_FILES:
                if (self.tokenizer / name).exists():
                    shutil.copyfile(self.tokenizer / name, local / name)
        except OSError as error:
            raise storage.disk_error(local, error) from error

    def _clear(self, place: str) -> None:
        """What lies there could be taken for uploaded before it is."""
        if dist.get_global_rank() == 0:
            delete_checkpoint(place)
            self.tokens.pop(place, None)

    def _upload(self, local: Path, place: str, mine: list[str], manifest: dict[str, Any]) -> float:
        """In the uploading thread: this rank's files and their list; on rank 0, then, the manifest."""
        start = time.monotonic()
        deadline = start + self.timeout
        listed = {}
        for name in mine:
            listed[name] = {"size": (local / name).stat().st_size, "sha256": storage.sha256(local / name)}
            _send(local / name, storage.join(place, name), deadline)
            (local / name).unlink()
        with suppress(OSError):  # another rank of this node is not done yet: the last one removes it
            local.rmdir()
        part = PART.format(rank=dist.get_global_rank())
        storage.write_bytes(storage.join(place, part), json.dumps(listed).encode())
        if dist.get_global_rank() == 0:
            parts = self._wait_for_parts(place, manifest["world_size"], deadline)
            files = {name: about for each in parts for name, about in json.loads(storage.read_bytes(each)).items()}
            _require_there(place, files)
            write_manifest(place, {**manifest, "files": files})
            for each in parts:
                storage.delete(each)
            self.tokens[place] = manifest["token"]
            self._remove_old()
        return time.monotonic() - start

    def _wait_for_parts(self, place: str, ranks: int, deadline: float) -> list[str]:
        parts, pause = [PART.format(rank=rank) for rank in range(ranks)], 0.05
        while missing := set(parts) - storage.list_files(place).keys():
            if time.monotonic() > deadline:
                raise MayPass(
                    f"{place}: ranks {', '.join(sorted(name.split('.')[1] for name in missing))} have not uploaded "
                    f"their files within {self.timeout:.0f} s; the checkpoint is not whole"
                )
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return [storage.join(place, part) for part in parts]

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


def _send(file: Path, place: str, deadline: float) -> None:
    """Training goes on meanwhile, so there is more patience than storage has."""
    while True:
        try:
            return storage.upload(file, place)
        except StoreTrouble:
            if time.monotonic() > deadline:
                raise


def _reason_of_the_disk(error: CheckpointException) -> str | None:
    """What the disk of one of the ranks had against the files, or None when it was something else."""
    for rank, (cause, _) in error.failures.items():
        if isinstance(cause, OSError):
            return f"rank {rank}: {cause.strerror or cause}"
    for rank, (cause, _) in error.failures.items():
        if "inline_container" in str(cause):  # torch's archive writer hides the cause
            return f"rank {rank}: a file came out short, as on a full disk"
    return None


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
