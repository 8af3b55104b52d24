"""The training loader gives what Streaming gives, in its order, for less."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streaming import MDSWriter, StreamingDataset

from model.composer_gpt import collate, stack, widen
from recipes import build
from recipes.packed_sequences import PackedSequences
from recipes.schema import Training
from recipes.shard_fetch import WholeShards, fetch_indexes

LENGTH, SEQUENCES, SHARD_BYTES = 8, 60, 400
ALL = 1 << 16  # every id that the shards can hold


@pytest.fixture
def shards(tmp_path: Path) -> Callable[..., Path]:
    def shards(compression: str | None = None) -> Path:
        place = tmp_path / "remote"
        with MDSWriter(
            out=str(place), columns={"tokens": f"ndarray:uint16:{LENGTH}"}, compression=compression,
            size_limit=SHARD_BYTES,
        ) as writer:  # fmt: skip
            for number in range(SEQUENCES):
                writer.write({"tokens": np.full(LENGTH, 65_000 + number, dtype=np.uint16)})
        return place

    return shards


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("limited", [False, True])
def test_samples_and_their_order_are_streamings_own_also_when_shards_come_and_go(
    shards, tmp_path, compression, limited
):
    remote = shards(compression)
    room = (remote / "index.json").stat().st_size + 4 * 2 * SHARD_BYTES  # of a packed shard both forms count
    settings = {
        "batch_size": 2, "shuffle": True, "shuffle_seed": 5, "num_canonical_nodes": 1,
        "cache_limit": room if limited else None,
    }  # fmt: skip
    theirs = StreamingDataset(remote=str(remote), local=str(tmp_path / "theirs"), **settings)
    streams = [WholeShards(remote=str(remote), local=str(tmp_path / "ours"))]
    fetch_indexes(streams)
    ours = PackedSequences(ALL, streams=streams, **settings)
    assert len(ours.shards) > 5
    for _ in range(2):  # epochs, each with an order of its own
        expected = [int(sample["tokens"][0]) for sample in theirs]
        assert sorted(expected) == list(range(65_000, 65_000 + SEQUENCES)) != expected
        assert [int(sample["tokens"][0]) for sample in ours] == expected


def test_the_cache_is_locked_for_a_shard_and_not_for_a_sample(shards, tmp_path, monkeypatch):
    prepared: list[int] = []
    theirs = StreamingDataset.prepare_shard

    def counted(self: StreamingDataset, shard_id: int, blocking: bool = True) -> None:
        prepared.append(shard_id)
        theirs(self, shard_id, blocking)

    monkeypatch.setattr(StreamingDataset, "prepare_shard", counted)
    dataset = PackedSequences(ALL, remote=str(shards()), local=str(tmp_path / "cache"), batch_size=2, shuffle=True)
    assert len(list(dataset)) == SEQUENCES
    assert set(prepared) == set(range(len(dataset.shards)))
    assert len(prepared) <= 2 * len(dataset.shards)  # either of Streaming's two threads may be the first


def test_a_shard_that_has_gone_from_the_cache_is_fetched_again(shards, tmp_path):
    dataset = PackedSequences(ALL, remote=str(shards()), local=str(tmp_path / "cache"), batch_size=2)
    assert len(list(dataset)) == SEQUENCES
    for shard in (tmp_path / "cache").glob("*.mds"):
        shard.unlink()
    assert len(list(dataset)) == SEQUENCES


def test_every_id_of_uint16_is_the_same_number_in_a_batch():
    ids = np.arange(2**16, dtype=np.uint16)[::-1].reshape(64, 1024)
    samples = [{"tokens": np.frombuffer(row.tobytes(), np.uint16)} for row in ids]  # not writable, as Streaming's
    handed_over = stack(samples)["input_ids"]
    assert isinstance(handed_over, np.ndarray) and handed_over.dtype == np.uint16
    for batch in (widen(stack(samples)), collate(samples)):
        assert batch["input_ids"].dtype == torch.int64
        assert batch["input_ids"].tolist() == ids.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_loader_goes_on_where_another_stopped(new_run, workers):
    """With any number of workers, each batch once, in the same order."""
    run = new_run(f"workers-{workers}")
    content = json.loads((run.folder / "run.yaml").read_text())
    content["train_loader"]["num_workers"] = workers

    def batches(name: str, take: int, state: Any = None) -> tuple[list[Any], Any]:
        content["train_loader"]["dataset"]["local"] = str(run.folder / name)
        data = build.build_train_data(Training.model_validate(content), ALL)
        if state is not None:
            data.dataloader.load_state_dict(state)
        found = [data.batch_transforms(batch)["input_ids"].tolist() for batch in islice(data.dataloader, take)]
        return found, data.dataloader.state_dict()

    whole, _ = batches("whole", 12)
    begun, state = batches("begun", 5)
    assert state["sample_in_epoch"] == 20
    rest, _ = batches("rest", 12, state)
    assert len(whole) == 12 and begun + rest == whole
