"""The validation loss is one number, whatever the ranks and the batch size, and training does not notice it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from small_data import HELD_OUT, LENGTH

from base.errors import UserError
from recipes.metrics import NORM, series

LOSS_HELD_OUT = "metrics/eval/LanguageCrossEntropy"
BITS = "metrics/eval/BitsPerByte"


def held_out(folder: Path, **changes) -> dict:
    return {
        "eval_loader": {"dataset": {"remote": str(folder / "mds"), "local": str(folder / "held-out"), "split": "val"}}
    }


@pytest.fixture
def new_validated_run(new_run, tmp_path):
    def new_validated_run(name: str, **changes):
        return new_run(name, **held_out(tmp_path / name), **changes)

    return new_validated_run


@pytest.mark.slow
def test_the_validation_loss_is_that_of_each_sequence_once_on_1_2_and_4_ranks_for_any_batch_size(new_validated_run):
    """13 sequences divide by nothing. At batch 1 the learning rate was 0: these are the initial weights."""
    found = {}
    for ranks, batch_size in ((1, 5), (2, 8), (4, 2)):
        run = new_validated_run(f"{ranks}-{batch_size}", max_duration="3ba", eval_interval="1ba",
                                device_train_microbatch_size=1, device_eval_batch_size=batch_size)  # fmt: skip
        output = run.train(ranks)
        found[ranks, batch_size] = run.metrics()[1]
        assert "validation at batch 1: loss " in output and "bits a byte" in output
    loss, byte_count = judged_one_by_one(run.folder)
    for values in found.values():
        assert values[LOSS_HELD_OUT] == pytest.approx(loss, rel=1e-6)
        assert values["metrics/eval/LanguagePerplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
        bits = loss * HELD_OUT * (LENGTH - 1) / math.log(2) / byte_count
        assert values[BITS] == pytest.approx(bits, rel=1e-6)


def judged_one_by_one(folder: Path) -> tuple[float, int]:
    """Nats a token of the initial weights, and the bytes of the text, by a plain loop."""
    import torch
    from streaming import LocalDataset
    from tokenizers import Tokenizer

    from model.composer_gpt import ComposerGPT, collate
    from model.gpt import GPT
    from recipes.preflight import preflight
    from recipes.schema import Training

    config = Training.model_validate(json.loads((folder / "run.yaml").read_text()))
    shape = preflight(config, 1, probe_writing=False).model
    assert shape is not None
    model = ComposerGPT(GPT(shape), config.seed).eval()
    tokenizer = Tokenizer.from_file(f"{config.tokenizer.name}/tokenizer.json")
    lengths = {id: len(token) for token, id in tokenizer.get_vocab(with_added_tokens=False).items()}
    lengths[tokenizer.token_to_id("<|endoftext|>")] = 0
    rows = [row["tokens"] for row in LocalDataset(str(folder / "mds"), "val")]
    assert len(rows) == HELD_OUT
    with torch.no_grad():
        losses = [model(collate([{"tokens": row}])).double().item() for row in rows]
    return float(np.mean(losses)), sum(lengths[id] for row in rows for id in row[1:].tolist())


@pytest.mark.slow
def test_training_is_bit_for_bit_the_same_with_and_without_validation(new_run, new_validated_run):
    """Dropout on, two ranks, sharded; validation falls on saves, between them, on an epoch's end and on the run's."""
    without, validated = new_run("without"), new_validated_run("with", eval_interval="3ba", device_eval_batch_size=4)
    without.train(2)
    validated.train(2)
    assert len(without.losses()) == 20
    assert validated.losses() == without.losses()
    assert series(validated.metrics(), NORM) == series(without.metrics(), NORM)
    batches, losses = series(validated.metrics(), LOSS_HELD_OUT)
    assert batches == [3, 6, 9, 12, 15, 18, 20]
    assert losses[-1] < losses[0]

    killed = new_validated_run("killed", eval_interval="3ba", device_eval_batch_size=4)
    killed.train_and_kill(2, at_batch=7, saved="ep0-ba5")
    killed.train(2)
    assert killed.losses() == without.losses()
    assert series(killed.metrics(), LOSS_HELD_OUT) == (batches, losses)


def test_the_bytes_of_tokens_are_those_of_the_text(packed):
    import torch
    from tokenizers import Tokenizer

    from recipes.validation import token_bytes

    path = packed / "tokenizer" / "tokenizer.json"
    table = token_bytes(path)
    assert table is not None
    text = "the dose – 5 µg/kg was given to the patient\n\n"
    ids = Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids
    assert table[torch.tensor(ids)].sum() == len(text.encode())
    assert table[Tokenizer.from_file(str(path)).token_to_id("<|endoftext|>")] == 0


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_held_out_shards_are_fetched_once_and_again_when_they_are_damaged(tmp_path, compression):
    from streaming import LocalDataset, MDSWriter

    from recipes.schema import EvalDataset
    from recipes.validation import fetch_shards

    columns = {"tokens": "ndarray:uint16:8"}
    remote, local = tmp_path / "remote" / "val", tmp_path / "local"
    with MDSWriter(
        out=str(remote), columns=columns, hashes=["sha1"], size_limit=200, compression=compression
    ) as writer:
        for number in range(30):
            writer.write({"tokens": np.full(8, number, dtype=np.uint16)})
    dataset = EvalDataset(remote=str(tmp_path / "remote"), local=str(local), split="val")
    fetch_shards(dataset, 30)
    shards = sorted((local / "val").glob("*.mds"))
    assert len(shards) > 2 and not list((local / "val").glob("*.zstd"))
    assert [row["tokens"][0] for row in LocalDataset(str(local), "val")] == list(range(30))

    times = [shard.stat().st_mtime_ns for shard in shards]
    fetch_shards(dataset, 30)
    assert [shard.stat().st_mtime_ns for shard in shards] == times
    shards[1].write_bytes(shards[1].read_bytes()[:-1] + b"x")
    fetch_shards(dataset, 30)
    assert [row["tokens"][0] for row in LocalDataset(str(local), "val")] == list(range(30))

    theirs = sorted(remote.glob("shard.*"))[1]
    theirs.write_bytes(theirs.read_bytes()[:-1] + b"x")
    shards[1].unlink()
    with pytest.raises(UserError, match=r"shard\.00001\.mds.* is not what index.json says"):
        fetch_shards(dataset, 30)
