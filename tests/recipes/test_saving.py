"""A checkpoint becomes whole only when all that its manifest names is there; a fault in the data costs none."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from composer.core import Timestamp

from base.errors import MayPass, UserError
from model.checkpoint import list_checkpoints, read_manifest
from model.config import GPTConfig
from recipes.batch_size import BatchSizes
from recipes.callbacks.end_together import EndTogether
from recipes.callbacks.save_checkpoints import SaveCheckpoints
from recipes.signals import EndRequest
from recipes.train_loader import TrainLoader


class OfRank0:
    """A snapshot without DCP."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()

    def write(self) -> list[Any]:
        (self.folder / "__0_0.distcp").write_bytes(b"of rank 0")
        return [("state.model", None, "__0_0.distcp", 0, 9)]

    def write_metadata(self, written: list[Any]) -> Path:
        (self.folder / ".metadata").write_text(str(written))
        return self.folder / ".metadata"


@pytest.fixture
def checkpoints(tmp_path) -> SaveCheckpoints:
    return SaveCheckpoints(str(tmp_path / "there"), "5ba", tmp_path / "staging", {}, tmp_path, -1, None, 5)


@pytest.mark.parametrize("of_rank_1", ["is there", "is gone", "was replaced"])
def test_no_manifest_is_written_for_files_that_another_process_has_removed_meanwhile(checkpoints, of_rank_1):
    place = Path(checkpoints.folder, "ep0-ba5")
    place.mkdir(parents=True)
    mine, part = OfRank0(checkpoints.staging), {"size": 9, "sha256": "…"}
    (place / "manifest.1.json").write_text(json.dumps({"files": {"__1_0.distcp": part}, "written": []}))
    if of_rank_1 != "is gone":
        (place / "__1_0.distcp").write_bytes(b"of rank 1" if of_rank_1 == "is there" else b"another's")
    if of_rank_1 == "was replaced":
        (place / "__1_0.distcp").write_bytes(b"shorter")
    manifest = {"token": 5, "world_size": 2, "model": GPTConfig(vocab_size=9).to_dict()}
    upload: Any = (mine, str(place), manifest)
    if of_rank_1 == "is there":
        checkpoints._upload(*upload)
        assert set(read_manifest(str(place))["files"]) == {"__0_0.distcp", "__1_0.distcp", ".metadata"}
    else:
        with pytest.raises(MayPass, match=r"ep0-ba5: __1_0\.distcp is gone .* another run save into the same folder"):
            checkpoints._upload(*upload)
        assert not any(one.whole for one in list_checkpoints(checkpoints.folder))
    assert not checkpoints.staging.exists()


@pytest.mark.parametrize("kind", [UserError, MayPass])
def test_rank_0_does_not_wait_for_the_files_of_a_rank_that_cannot_write_or_send_them(checkpoints, kind):
    place = Path(checkpoints.folder, "ep0-ba5")
    place.mkdir(parents=True)
    other: Any = OfRank0(checkpoints.staging)

    def write() -> list[Any]:
        raise kind("its disk is full")

    other.write = write
    checkpoints.timeout = 3600
    with pytest.raises(UserError, match="its disk is full"):  # of rank 1: it tells the others
        checkpoints._upload(other, str(place), {"world_size": 2})
    (place / "manifest.0.json").rename(place / "manifest.1.json")
    checkpoints.upload = checkpoints.uploader.submit(
        checkpoints._upload, OfRank0(checkpoints.staging), str(place), {"world_size": 2}
    )
    with pytest.raises(kind, match="its disk is full") as raised:
        checkpoints.finish_upload()
    assert type(raised.value) is kind  # whether to start again
    assert not any(one.whole for one in list_checkpoints(checkpoints.folder))


def test_a_fault_in_the_data_ends_a_run_once_its_last_checkpoint_is_up_and_is_what_is_told(checkpoints):
    loader: Any = TrainLoader(BatchSizes(4), 8, [{"input_ids": 0}] * 8, batch_size=4)
    loader.fault = UserError("a shard that is damaged")
    state: Any = SimpleNamespace(dataloader=loader, timestamp=Timestamp(), previous_timestamp=Timestamp())
    up = threading.Event()

    def upload() -> float:
        time.sleep(0.3)
        up.set()
        raise MayPass("the store fails")

    checkpoints.upload = checkpoints.uploader.submit(upload)
    with pytest.raises(UserError, match=r"^a shard that is damaged$"):
        EndTogether(EndRequest(), checkpoints).epoch_end(state, SimpleNamespace())  # type: ignore[arg-type]
    assert up.is_set()
