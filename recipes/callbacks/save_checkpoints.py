"""Checkpoints that are whole or not there: saved sharded by Composer, uploaded beside the training, manifest last.

Composer's own CheckpointSaver is not used: it starts worker processes that import torch, keeps every local copy, and
leaves a newest checkpoint behind that may lack files (facts measured with 0.32.1). The files that it would write are
written here by the same function of Composer, in the same layout.
"""

import json
import shutil
import time
import warnings
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
from base.errors import UserError
from model.checkpoint import MANIFEST, TOKENIZER_FILES, list_checkpoints
from model.config import GPTConfig
from recipes.together import in_one, together

LONGEST_PAUSE = 5.0  # seconds between two looks for the other ranks' files
LAYOUT = "ep{epoch}-ba{batch}"


class SaveCheckpoints(Callback):
    """Save at an interval and at the end of training.

    Args:
        folder: where the checkpoints go, local or s3://.
        interval: ``1000ba``, ``1800sec``, ``1ep`` … as Composer's save_interval.
        staging: a local folder on each node; a checkpoint lies there until it is uploaded.
        model: the shape, for the manifest.
        trained_with: what else a run that goes on from a checkpoint must have alike, for the manifest.
        run_id: what trackers know the run by, for the manifest.
        tokenizer: a local folder whose files go into each checkpoint, so that it can be used alone.
        keep: number of whole checkpoints to keep in ``folder``; -1 keeps all.
        timeout: seconds that rank 0 waits for the other ranks' uploads.
    """

    def __init__(
        self,
        folder: str,
        interval: str,
        staging: Path,
        model: GPTConfig,
        trained_with: dict[str, Any],
        run_id: str,
        tokenizer: Path,
        keep: int,
        timeout: float,
    ):
        self.folder, self.staging, self.model, self.tokenizer = folder, staging, model, tokenizer
        self.trained_with, self.run_id, self.keep, self.timeout = trained_with, run_id, keep, timeout
        self.due = create_interval_scheduler(interval)
        self.last_saved = -1
        self.uploads: list[Future[None]] = []
        self.uploader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="upload")

    def fit_start(self, state: State, logger: Logger) -> None:
        if dist.get_local_rank() == 0:
            shutil.rmtree(self.staging, ignore_errors=True)  # what a killed run had not uploaded
        dist.barrier()
        self.last_saved = state.timestamp.batch.value  # that checkpoint is there: we come from it

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.due(state, Event.BATCH_CHECKPOINT):
            self._save(state, logger)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.due(state, Event.EPOCH_CHECKPOINT):
            self._save(state, logger)

    def fit_end(self, state: State, logger: Logger) -> None:
        self._finish_uploads()

    def post_close(self) -> None:
        self.uploader.shutdown(wait=True)

    def _save(self, state: State, logger: Logger) -> None:
        batch = state.timestamp.batch.value
        if batch == self.last_saved:
            return
        self.last_saved = batch
        start = time.monotonic()
        self._finish_uploads()  # the one before: never two copies on the node's disk
        name = LAYOUT.format(epoch=state.timestamp.epoch.value, batch=batch)
        local, place = self.staging / name, storage.join(self.folder, name)
        mine = self._write(state, local)
        together(partial(self._clear, place))  # of another process that was cut off, or of a damaged checkpoint
        manifest = {
            "format": 1,
            "epoch": state.timestamp.epoch.value,
            "batch": batch,
            "token": state.timestamp.token.value,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "world_size": dist.get_world_size(),
            "run_id": self.run_id,
            "model": self.model.to_dict(),
            "trained_with": self.trained_with,
            "files": {file: entry for part in dist.all_gather_object(mine) for file, entry in part.items()},
        }
        self.uploads.append(self.uploader.submit(self._upload, local, place, mine, manifest))
        logger.log_metrics({"checkpoint/seconds_waited": time.monotonic() - start})

    def _write(self, state: State, local: Path) -> dict[str, dict[str, Any]]:
        """Write this rank's files; returns them with size and hash. A disk that is full ends all ranks together."""
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
        files = sorted(
            file
            for file in local.iterdir()
            if file.name.startswith(f"__{rank}_") or (rank == 0 and not file.name.startswith("__"))
        )
        return {file.name: {"size": file.stat().st_size, "sha256": storage.sha256(file)} for file in files}

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
        """Files of the same name and size would be taken for uploaded ones before they are."""
        if dist.get_global_rank() == 0:
            _delete_checkpoint(place)

    def _upload(self, local: Path, place: str, mine: dict[str, Any], manifest: dict[str, Any]) -> None:
        for name in mine:
            storage.upload(local / name, storage.join(place, name))
            (local / name).unlink()
        with suppress(OSError):  # another rank of this node is not done yet: the last one removes it
            local.rmdir()
        if dist.get_global_rank() != 0:
            return
        expected = {name: entry["size"] for name, entry in manifest["files"].items()}
        deadline = time.monotonic() + self.timeout
        pause = 0.05
        while (missing := expected.items() - storage.list_files(place).items()) and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        if missing:
            names = ", ".join(sorted(name for name, _ in missing))
            raise UserError(f"{place}: not uploaded within {self.timeout:.0f} s: {names}; the checkpoint is not whole")
        storage.write_bytes(storage.join(place, MANIFEST), json.dumps(manifest, indent=1).encode())
        self._remove_old()

    def _remove_old(self) -> None:
        if self.keep < 0:
            return
        for old in [found for found in list_checkpoints(self.folder) if found.whole][: -self.keep]:
            _delete_checkpoint(old.location)

    def _finish_uploads(self) -> None:
        """Wait for this rank's uploads; when one failed on any rank, all ranks raise together."""
        failed = [_as_told(error) for upload in self.uploads if (error := upload.exception()) is not None]
        self.uploads.clear()
        failures = [failure for rank in dist.all_gather_object(failed) for failure in rank]
        if failures:
            raise in_one(failures, "a checkpoint could not be uploaded")


def _as_told(error: BaseException) -> UserError:
    return error if isinstance(error, UserError) else UserError(str(error))


def _reason_of_the_disk(error: CheckpointException) -> str | None:
    """What the disk of one of the ranks had against the files, or None when it was something else."""
    for rank, (cause, _) in error.failures.items():
        if isinstance(cause, OSError):
            return f"rank {rank}: {cause.strerror or cause}"
    for rank, (cause, _) in error.failures.items():
        if "inline_container" in str(cause):  # torch's archive writer hides the cause
            return f"rank {rank}: a file came out short, as on a full disk"
    return None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage.disk_error(folder, error) from error


def _delete_checkpoint(place: str) -> None:
    storage.delete(storage.join(place, MANIFEST))  # first: what is left is no checkpoint any more
    for name in storage.list_files(place):
        storage.delete(storage.join(place, name))
    if not storage.is_remote(place):
        with suppress(OSError):
            Path(place).rmdir()
