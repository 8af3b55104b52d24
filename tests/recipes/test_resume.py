"""Which checkpoint a run goes on from, and that it is the run that would have been on any number of ranks."""

import json
from pathlib import Path

import pytest

from base import storage
from base.errors import UserError
from model.checkpoint import MANIFEST, read_manifest, write_manifest
from model.config import GPTConfig
from recipes.resume import fetch_newest

WATCHED = "benchmarks/chaos/watched_train.py"
FILES = {".metadata": b"\x80\x04N.", "__0_0.distcp": b"weights of rank 0", "__1_0.distcp": b"weights of rank 1"}


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    """Two whole checkpoints, as far as fetching looks."""
    for batch in (10, 20):
        place = tmp_path / "checkpoints" / f"ep0-ba{batch}"
        place.mkdir(parents=True)
        for name, content in FILES.items():
            (place / name).write_bytes(content)
        files = {
            name: {"size": len(content), "sha256": storage.sha256(place / name)} for name, content in FILES.items()
        }
        model = GPTConfig(vocab_size=9).to_dict()
        write_manifest(str(place), {"epoch": 0, "batch": batch, "token": batch, "model": model, "files": files})
    return tmp_path / "checkpoints"


def harmed(sound: bytes, harm: str) -> bytes:
    middle = len(sound) // 2
    flipped = sound[:middle] + bytes([sound[middle] ^ 4]) + sound[middle + 1 :]
    return {"cut": sound[:-1], "emptied": b"", "flipped": flipped, "longer": sound + b"\0"}[harm]


@pytest.mark.parametrize("harm", ["cut", "emptied", "flipped", "longer", "removed"])
@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_whatever_is_wrong_with_the_newest_the_one_before_is_taken_and_the_fault_is_named(
    checkpoints, tmp_path, capsys, name, harm
):
    file = checkpoints / "ep0-ba20" / name
    if harm == "removed":
        file.unlink()
    else:
        file.write_bytes(harmed(file.read_bytes(), harm))
    into = fetch_newest(str(checkpoints), tmp_path / "into")
    assert into is not None and read_manifest(str(into))["batch"] == 10
    assert {one.name for one in into.iterdir()} == {*FILES, MANIFEST}
    told = capsys.readouterr().err
    if (name, harm) == (MANIFEST, "removed"):
        assert told == ""  # it was cut off: the checks before training tell of it
    else:
        assert f"left out: {checkpoints}/ep0-ba20/{name}: " in told


@pytest.mark.parametrize("harm", ["cut", "emptied", "flipped", "removed"])
def test_when_all_are_damaged_nothing_is_begun_anew(checkpoints, tmp_path, harm):
    for batch in (10, 20):
        file = checkpoints / f"ep0-ba{batch}" / "__1_0.distcp"
        if harm == "removed":
            file.unlink()
        else:
            file.write_bytes(harmed(file.read_bytes(), harm))
    with pytest.raises(UserError, match="every checkpoint there is damaged; none can be resumed from"):
        fetch_newest(str(checkpoints), tmp_path / "into")


def test_where_there_is_none_a_run_begins(tmp_path):
    assert fetch_newest(str(tmp_path), tmp_path / "into") is None


@pytest.mark.slow
def test_samples_and_losses_are_those_of_one_rank_when_the_ranks_change_from_1_to_2_to_4_to_1(new_run):
    """Dropout off, for its random numbers are each rank's own; 12 batches an epoch, of which one ends in each part."""
    quiet = {"name": "gpt", "d_model": 32, "n_heads": 2, "n_layers": 2}
    quiet |= {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    schedule = {"name": "cosine_with_warmup", "t_warmup": "2ba", "t_max": "40ba"}
    settings = {"model": quiet, "max_duration": "40ba", "save_interval": "10ba", "device_train_microbatch_size": 1}
    alone, changing = (new_run(name, **settings, scheduler=schedule) for name in ("alone", "changing"))
    for run in (alone, changing):
        run.script, run.environment = WATCHED, {"WATCHED": str(run.folder / "watched")}
    alone.train(1)
    rows: dict[int, list[str]] = {}
    for ranks, until in ((1, 10), (2, 20), (4, 30), (1, 40)):
        changing.train(ranks, f"max_duration={until}ba", "scheduler.t_max=40ba")
        batches = [[json.loads(line) for line in file.read_text().splitlines()]
                   for file in sorted((changing.folder / "watched").iterdir())]  # fmt: skip
        assert len(batches) == ranks
        for same in zip(*batches, strict=True):
            rows[same[0]["batch"]] = sorted(row for each in same for row in each["rows"])
        for file in (changing.folder / "watched").iterdir():
            file.unlink()
    expected = [json.loads(line) for line in (alone.folder / "watched" / "rank-0.jsonl").read_text().splitlines()]
    assert [rows[one["batch"]] for one in expected] == [sorted(one["rows"]) for one in expected]
    assert len(rows) == 40
    assert changing.losses() == pytest.approx(alone.losses(), rel=2e-6)
