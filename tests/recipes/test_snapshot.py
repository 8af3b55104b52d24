"""A snapshot is the state as it was when it was taken, in the very bytes that torch's own writer writes."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dist_cp

from base.errors import UserError
from recipes.snapshot import Snapshot

pytestmark = pytest.mark.filterwarnings("ignore")


def state() -> dict[str, Any]:
    torch.manual_seed(1)
    return {"weights": torch.randn(40, 30), "a row": torch.randn(5, 7)[2], "step": torch.tensor(3), "seen": [1, 2]}


def taken(content: dict[str, Any], folder: Path) -> Snapshot:
    snapshot = Snapshot(folder)
    dist_cp.save(content, storage_writer=snapshot)
    return snapshot


def test_what_training_changes_before_the_files_are_written_is_not_in_them(tmp_path):
    dist_cp.save(state(), storage_writer=dist_cp.FileSystemWriter(tmp_path / "at once"))
    content = state()
    snapshot = taken(content, tmp_path / "behind")
    assert list((tmp_path / "behind").iterdir()) == []
    for one in content.values():
        one.append(9) if isinstance(one, list) else one.mul_(2)
    written = json.loads(json.dumps(snapshot.write()))  # on its way from rank to rank
    assert snapshot.write_metadata(written) == tmp_path / "behind" / ".metadata"
    at_once, behind = ((tmp_path / one / "__0_0.distcp").read_bytes() for one in ("at once", "behind"))
    assert behind == at_once
    first, second = (dist_cp.FileSystemReader(tmp_path / one).read_metadata() for one in ("at once", "behind"))
    assert second.storage_data == first.storage_data and second.state_dict_metadata == first.state_dict_metadata
    loaded = {key: torch.zeros_like(value) for key, value in state().items() if key != "seen"}
    dist_cp.load(loaded, checkpoint_id=tmp_path / "behind")
    assert all(torch.equal(loaded[key], state()[key]) for key in loaded)


def test_its_memory_is_free_once_it_is_written(tmp_path):
    snapshot = taken(state(), tmp_path)
    assert len(snapshot._copies._by_index) == 4
    snapshot.write()
    assert not snapshot._copies._by_index and snapshot.write() == []


@pytest.mark.parametrize("full", ["the device", "the folder is gone"])
def test_a_disk_that_does_not_take_it_is_a_clear_error(tmp_path, full):
    snapshot = taken(state(), tmp_path / "staging")
    if full == "the device":
        (tmp_path / "staging" / "__0_0.distcp").symlink_to("/dev/full")
    else:
        (tmp_path / "staging").rmdir()
    with pytest.raises(UserError, match=r"staging: (cannot be written|a file came out short)"):
        snapshot.write()
