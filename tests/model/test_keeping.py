"""Which checkpoints are kept; what the command line tells of a folder of them, and deletes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from base import storage
from model.checkpoint import (
    MANIFEST,
    delete_checkpoint,
    list_checkpoints,
    read_manifest,
    set_aside,
    superfluous,
    write_manifest,
)
from model.config import GPTConfig

ROOT = Path(__file__).parents[2]


def test_the_newest_are_kept_and_the_first_after_every_so_many_tokens():
    tokens = {f"at {number}": number for number in (40, 90, 110, 160, 210, 420, 450, 490, 510)}
    assert superfluous(tokens, 2, None) == [f"at {number}" for number in (40, 90, 110, 160, 210, 420, 450)]
    assert superfluous(tokens, 2, 100) == [f"at {number}" for number in (40, 90, 160, 450)]
    assert superfluous(tokens, 1, 1000) == [place for place in tokens if place != "at 510"]
    assert superfluous(tokens, -1, None) == [] == superfluous(tokens, 9, None) == superfluous({}, 1, 10)


@pytest.mark.parametrize(("keep", "every"), [(1, None), (1, 100), (3, 70), (2, 1000)])
def test_deleting_at_every_save_comes_to_the_same_as_deleting_once_and_the_last_always_stays(keep, every):
    all_of_them = {f"at {number}": number for number in range(7, 900, 13)}
    kept: dict[str, int] = {}
    for place, trained in all_of_them.items():
        kept[place] = trained
        for old in superfluous(kept, keep, every):
            del kept[old]
        assert place in kept
    once = {place: all_of_them[place] for place in all_of_them if place not in superfluous(all_of_them, keep, every)}
    assert kept == once


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    """Five whole ones of 1000 tokens a batch, one cut off, one set aside."""
    for batch in (10, 20, 30, 40, 50, 60, 70):
        place = tmp_path / f"ep0-ba{batch}"
        place.mkdir()
        (place / "data").write_bytes(bytes(batch))
        files = {"data": {"size": batch, "sha256": storage.sha256(place / "data")}}
        write_manifest(str(place), {"epoch": 0, "batch": batch, "token": 1000 * batch, "files": files,
                                    "model": GPTConfig(vocab_size=9).to_dict()})  # fmt: skip
    (tmp_path / "ep0-ba60" / MANIFEST).unlink()
    set_aside(str(tmp_path / "ep0-ba70"))
    return tmp_path


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "model.checkpoint", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_dry_run_tells_what_would_go_and_deletes_nothing(checkpoints):
    before = storage.list_files(str(checkpoints))
    result = command("prune", str(checkpoints), "--keep", "1", "--every", "20_000tok", "--dry-run")
    told = dict(line.split("  ")[:2] for line in result.stdout.splitlines())
    ends = {Path(place).name: end for place, end in told.items()}
    assert {name for name, end in ends.items() if end == "would be deleted"} == {"ep0-ba10", "ep0-ba30"}
    assert {name for name, end in ends.items() if end == "kept"} == {"ep0-ba20", "ep0-ba40", "ep0-ba50"}
    assert "ep0-ba60" in ends and "ep0-ba70" in ends  # told of, and not counted
    assert result.returncode == 0 and storage.list_files(str(checkpoints)) == before

    assert command("prune", str(checkpoints), "--keep", "1", "--every", "20_000tok").returncode == 0
    assert [one.batch for one in list_checkpoints(str(checkpoints))] == [20, 40, 50, 60, 70]
    assert command("prune", str(checkpoints), "--keep", "0").returncode == 2


def test_verify_looks_at_every_whole_checkpoint_and_names_what_is_damaged(checkpoints):
    result = command("verify", str(checkpoints))
    assert result.returncode == 0 and result.stderr.count("whole; 1 files") == 5
    (checkpoints / "ep0-ba30" / "data").write_bytes(bytes(29) + b"x")
    result = command("verify", str(checkpoints))
    assert result.returncode == 2 and result.stderr.count("whole; 1 files") == 4
    assert "ep0-ba30/data: its sha256 is not the manifest's" in result.stderr
    assert command("verify", str(checkpoints / "ep0-ba40")).returncode == 0
    listed = command("list", str(checkpoints)).stdout
    assert "ep0-ba60  batch 60" in listed and "NOT WHOLE" in listed and "set aside" in listed


def test_what_is_set_aside_is_no_checkpoint_and_can_be_taken_back(checkpoints):
    place = checkpoints / "ep0-ba70"
    assert not list_checkpoints(str(checkpoints))[-1].whole and list_checkpoints(str(checkpoints))[-1].set_aside
    (place / "manifest.set-aside.json").rename(place / MANIFEST)
    assert read_manifest(str(place))["batch"] == 70 and list_checkpoints(str(checkpoints))[-1].whole


def test_a_manifest_with_another_value_in_it_is_not_the_one_that_was_written(checkpoints):
    place = checkpoints / "ep0-ba10"
    sound = json.loads((place / MANIFEST).read_text())
    for key in sound:
        changed = sound | {key: "0" if key == "sha256" else 7 if isinstance(sound[key], int) else {}}
        (place / MANIFEST).write_text(json.dumps(changed))
        assert command("verify", str(place)).returncode == 2


def test_deleting_begins_with_the_manifest(checkpoints, monkeypatch):
    place, deleted = str(checkpoints / "ep0-ba10"), []
    delete = storage.delete
    monkeypatch.setattr(storage, "delete", lambda location: (deleted.append(Path(location).name), delete(location)))
    delete_checkpoint(place)
    assert deleted == [MANIFEST, "data"] and not Path(place).exists()
