"""An id that the model has no row for is refused by name, before training or before its batch reaches the model."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import LENGTH, SEQUENCES
from streaming import MDSWriter
from test_preflight import train_py
from torch.utils.data import DataLoader

from base.errors import NotThere, UserError
from data_prep.shards.mds import encode_shard
from recipes import shard_ids
from recipes.packed_sequences import PackedSequences, WrongId
from recipes.preflight import preflight
from recipes.run_sheet import run_sheet
from recipes.schema import Training
from recipes.shard_ids import look_at_ids, refuse_wrong_ids
from recipes.validation import fetch_shards

WRONG = 40_000


def write(folder: Path, wrong: int | None, compression: str | None = None) -> None:
    """50 sequences in small shards; the one with number ``wrong`` has an id that is too large, as its last."""
    shutil.rmtree(folder, ignore_errors=True)
    columns = {"tokens": f"ndarray:uint16:{LENGTH}"}
    with MDSWriter(out=str(folder), columns=columns, compression=compression, size_limit=1024) as writer:
        for number in range(SEQUENCES):
            tokens = np.full(LENGTH, number, dtype=np.uint16)
            if number == wrong:
                tokens[-1] = WRONG
            writer.write({"tokens": tokens})


def index(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "index.json").read_text())["shards"]


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("wrong", [0, 20, SEQUENCES - 1])
def test_a_wrong_id_in_any_small_shard_is_found_and_named(tmp_path, compression, wrong):
    write(tmp_path, wrong, compression)
    shards = index(tmp_path)
    assert len(shards) > 5
    with pytest.raises(UserError) as error:
        look_at_ids(str(tmp_path), shards, WRONG)
    first = 0
    for shard in shards:
        if wrong < first + shard["samples"]:
            break
        first += shard["samples"]
    name = (shard["zip_data"] or shard["raw_data"])["basename"]
    assert f"{tmp_path}/{name}: sequence {wrong - first} holds the id {WRONG}," in str(error.value)
    assert f"vocab_size {WRONG} ids end at {WRONG - 1}" in str(error.value) and "tokenizer.name" in str(error.value)
    assert look_at_ids(str(tmp_path), shards, WRONG + 1) == "all of every shard"


def test_ids_are_found_among_other_columns(tmp_path):
    columns = {"age": "int", "note": "str", "tokens": "ndarray:uint16:8", "word": "str"}
    with MDSWriter(out=str(tmp_path), columns=columns) as writer:
        for number in range(9):
            tokens = np.full(8, number, dtype=np.uint16)
            writer.write({"age": 2**40, "note": "ÿ" * 3 * number, "tokens": tokens, "word": "ÿÿÿÿ"})
    assert look_at_ids(str(tmp_path), index(tmp_path), 9) == "all of every shard"
    with pytest.raises(UserError, match="sequence 8 holds the id 8"):
        look_at_ids(str(tmp_path), index(tmp_path), 8)


def test_of_many_large_shards_the_beginning_of_every_nth_is_read_and_this_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_ids, "HEAD", 2_000)
    monkeypatch.setattr(shard_ids, "LOCAL", 8_000)
    entries = []
    for number in range(11):
        ids = np.zeros((40, LENGTH), dtype=np.uint16)
        ids[-1, -1] = WRONG  # beyond what is read
        data, entry = encode_shard(ids, number, 1 << 16, ["sha1"], None)
        (tmp_path / entry["raw_data"]["basename"]).write_bytes(data)
        entries.append(entry)
    seen = look_at_ids(str(tmp_path), entries, 10)
    assert seen == "the beginning of 4 of 11 shards: shard.00001.mds and then one in 3"
    with pytest.raises(UserError, match=f"whole: sequence 39 holds the id {WRONG}"):
        refuse_wrong_ids("whole", (tmp_path / "shard.00001.mds").read_bytes(), entries[1], 10)


def test_what_is_no_shard_or_is_not_there_is_told(tmp_path):
    write(tmp_path, None)
    shards = index(tmp_path)
    first = tmp_path / shards[0]["raw_data"]["basename"]
    first.write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match=r"shard\.00000\.mds: not a shard of packed tokens"):
        look_at_ids(str(tmp_path), shards, SEQUENCES)
    first.unlink()
    with pytest.raises(NotThere, match=r"shard\.00000\.mds: no such file"):
        look_at_ids(str(tmp_path), shards, SEQUENCES)


@pytest.mark.slow
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_shards_in_a_bucket_are_looked_at(tmp_path, s3, compression):
    from base import storage

    write(tmp_path, 30, compression)
    folder = s3.location(f"wrong-ids-{compression}")
    for file in tmp_path.iterdir():
        storage.upload(file, storage.join(folder, file.name))
    assert look_at_ids(folder, index(tmp_path), WRONG + 1) == "all of every shard"
    with pytest.raises(UserError, match=f"{folder}/shard.* holds the id {WRONG}"):
        look_at_ids(folder, index(tmp_path), WRONG)


def config_of(run: Any) -> Training:
    return Training.model_validate(json.loads((run.folder / "run.yaml").read_text()))


def test_the_check_refuses_the_run_and_says_where_it_looked(new_run):
    run = new_run("wrong")
    sheet = run_sheet(config_of(run), preflight(config_of(run), 1, False), 1)
    assert "  ids looked at " in sheet and " all of every shard\n" in sheet

    write(run.folder / "mds" / "train", 7)
    result = train_py(str(run.folder / "run.yaml"), "--check")
    assert result.returncode == 2
    assert "mds/train/shard.0000" in result.stderr and "holds the id 40000" in result.stderr
    assert "1 fault before" in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_names_the_sequence_before_it_gives_its_batch(tmp_path, workers):
    write(tmp_path / "train", 20)
    dataset = PackedSequences(WRONG, local=str(tmp_path), split="train", batch_size=2)
    batches = []
    with pytest.raises(WrongId) as error:
        for batch in DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=list):
            batches.append(batch)
    assert len(batches) == 10
    assert str(error.value).startswith(f"{tmp_path}/train/shard.0000")
    assert "holds the id 40000" in str(error.value) and "\n" not in str(error.value)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # noqa: S301


def test_held_out_shards_are_all_looked_at(tmp_path):
    from recipes.schema import EvalDataset

    write(tmp_path / "val", 44)
    with pytest.raises(UserError, match=f"val/shard.* holds the id {WRONG}"):
        fetch_shards(EvalDataset(local=str(tmp_path), split="val"), WRONG)


@pytest.mark.slow
def test_a_wrong_id_on_one_rank_ends_both_with_one_message_and_no_checkpoint_of_it(new_run):
    """In gzip, which the preflight does not unpack. Not shuffled: the second rank meets it, after 7 batches."""
    run = new_run("late")
    write(run.folder / "mds" / "train", 31, compression="gz")
    sheet = run_sheet(config_of(run), preflight(config_of(run), 2, False), 2)
    assert "none: they are packed with gz" in sheet
    process = run.start(2, "train_loader.dataset.shuffle=false", "save_interval=1ep", "dist_timeout=300")
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 2, output
    assert output.count("holds the id 40000") == 1, output
    assert f"error: {run.folder}/mds/train/shard.0000" in output
    assert "Traceback" not in output
    assert len(run.losses()) == 7
    assert not list(run.checkpoints.glob("ep*"))
