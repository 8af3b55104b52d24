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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State
from composer.core import Event
from composer.utils import checkpoint, create_interval_scheduler, dist
from torch.distributed.checkpoint.api import CheckpointException

from base import storage
from base.errors import UserError
from model.checkpoint import MANIFEST, TOKENIZER_FILES, list_checkpoints
from model.config import GPTConfig

UPLOAD_POLL_SECONDS = 0.5
LAYOUT = "ep{epoch}-ba{batch}"


class SaveCheckpoints(Callback):
    """Save at an interval and at the end of training.

    Args:
        folder: where the checkpoints go, local or s3://.
        interval: ``1000ba``, ``1800sec``, ``1ep`` … as Composer's save_interval.
        staging: a local folder on each node; a checkpoint lies there until it is uploaded.
        model: the shape, for the manifest.
        tokenizer: a local folder whose files go into each checkpoint, so that it can be used alone.
        keep: number of whole checkpoints to keep in ``folder``; -1 keeps all.
        timeout: seconds that rank 0 waits for the other ranks' uploads.
    """

    def __init__(
        self, folder: str, interval: str, staging: Path, model: GPTConfig, tokenizer: Path, keep: int, timeout: float
    ):
        self.folder, self.staging, self.model, self.tokenizer = folder, staging, model, tokenizer
        self.keep, self.timeout = keep, timeout
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
        local = self.staging / name
        mine = self._write(state, local)
        manifest = {
            "format": 1,
            "epoch": state.timestamp.epoch.value,
            "batch": batch,
            "token": state.timestamp.token.value,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "world_size": dist.get_world_size(),
            "model": self.model.to_dict(),
            "files": {file: entry for part in dist.all_gather_object(mine) for file, entry in part.items()},
        }
        self.uploads.append(self.uploader.submit(self._upload, local, storage.join(self.folder, name), mine, manifest))
        logger.log_metrics({"checkpoint/seconds_waited": time.monotonic() - start})

    def _write(self, state: State, local: Path) -> dict[str, dict[str, Any]]:
        """Write this rank's files; returns them with size and hash. When one rank cannot, all ranks raise together."""
        before = {file.name for file in local.glob("*")}
        trouble = None
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # torch's own use of it
                checkpoint.save_checkpoint(state, filename=str(self.staging / "{rank}"))  # into LAYOUT, below it
            if dist.get_global_rank() == 0:
                for name in TOKENIZER_FILES:
                    if (self.tokenizer / name).exists():
                        shutil.copyfile(self.tokenizer / name, local / name)
        except (OSError, RuntimeError, CheckpointException) as error:  # a full disk can show as any of these
            free = shutil.disk_usage(self.staging.parent).free
            trouble = f"rank {dist.get_global_rank()}: {local}: {_last_line(error)} ({free / 1e9:.2f} GB free there)"
        _raise_together("a checkpoint could not be written", [trouble] if trouble else [])
        rank = dist.get_global_rank()
        files = sorted(
            file
            for file in local.iterdir()
            if file.name not in before
            and (file.name.startswith(f"__{rank}_") or (rank == 0 and not file.name.startswith("__")))
        )
        return {file.name: {"size": file.stat().st_size, "sha256": storage.sha256(file)} for file in files}

    def _upload(self, local: Path, place: str, mine: dict[str, Any], manifest: dict[str, Any]) -> None:
        for name in mine:
            storage.upload(local / name, storage.join(place, name))
            (local / name).unlink()
        if dist.get_global_rank() != 0:
            return
        expected = {name: entry["size"] for name, entry in manifest["files"].items()}
        deadline = time.monotonic() + self.timeout
        while (missing := expected.items() - storage.list_files(place).items()) and time.monotonic() < deadline:
            time.sleep(UPLOAD_POLL_SECONDS)
        if missing:
            names = ", ".join(sorted(name for name, _ in missing))
            raise UserError(f"{place}: not uploaded within {self.timeout:.0f} s: {names}; the checkpoint is not whole")
        storage.write_bytes(storage.join(place, MANIFEST), json.dumps(manifest, indent=1).encode())
        shutil.rmtree(local, ignore_errors=True)
        self._remove_old()

    def _remove_old(self) -> None:
        whole = [found for found in list_checkpoints(self.folder) if found.whole]
        for old in whole[: -self.keep] if self.keep > 0 else []:
            storage.delete(storage.join(old.location, MANIFEST))  # first: what is left is no checkpoint any more
            for name in storage.list_files(old.location):
                storage.delete(storage.join(old.location, name))

    def _finish_uploads(self) -> None:
        """Wait for this rank's uploads; when one failed on any rank, all ranks raise together."""
        failed = [str(error) for upload in self.uploads if (error := upload.exception()) is not None]
        self.uploads.clear()
        _raise_together("a checkpoint could not be uploaded", failed)


def _raise_together(what: str, mine: list[str]) -> None:
    """Raise one error on all ranks when any of them has a reason to; also a barrier."""
    reasons = [reason for rank in dist.all_gather_object(mine) for reason in rank]
    if reasons:
        raise UserError(f"{what}\n  " + "\n  ".join(reasons), shared=True)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
