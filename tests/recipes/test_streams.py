"""Several corpora as one: their shares, their faults, and what is left in shared memory."""

import json
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from small_data import LENGTH
from streaming.base.shared import prefix as streaming_numbers

from base.configuration import load_configuration
from base.errors import UserError
from recipes.data_found import samples_per_epoch
from recipes.packed_sequences import PackedSequences
from recipes.preflight import preflight
from recipes.run_sheet import run_sheet
from recipes.schema import Dataset, Training
from recipes.shard_cache import claim_caches, number_segments_apart

ROOT = Path(__file__).parents[2]
SHARED_MEMORY = Path("/dev/shm")


def of_streams(**streams: str) -> str:
    inside = ", ".join(f"{name}: {{{text}}}" for name, text in streams.items())
    return f"train_loader.dataset={{streams: {{{inside}}}}}"


@pytest.mark.parametrize(
    ("argument", "fault"),
    [
        ("train_loader.dataset={split: train}", "train_loader.dataset.local: is missing"),
        ("train_loader.dataset.streams={a: {local: x}}", "train_loader.dataset.remote: each of the `streams`"),
        (of_streams(a="local: x, remte: y"), "did you mean train_loader.dataset.streams.a.remote?"),
        (of_streams(a="local: x", b="local: ./x"), "streams.b.local: is that of train_loader.dataset.streams.a"),
        (of_streams(a="local: x, repeat: 2.0, choose: 5"), "streams.a: takes one of proportion, repeat and choose"),
        (of_streams(a="local: x, proportion: 0.5", b="local: y"), "streams.b: needs a proportion"),
        (of_streams(a="local: x, proportion: 0.0"), "streams.a.proportion: "),
        ("train_loader.dataset={epoch_size: 5, streams: {a: {local: x, choose: 5}}}", "dataset.epoch_size: follows"),
        ("train_loader.dataset={cache_limit: 1gb, streams: {a: {local: x, remote: r}, b: {local: y}}}",
         "train_loader.dataset.cache_limit: no `remote`, so no other copy: train_loader.dataset.streams.b"),
        ("train_loader.dataset={streams: {}}", "train_loader.dataset.streams: "),
        ("eval_interval=60sec", "eval_interval: must be in ba"),
        ("eval_subset_num_batches=0", "eval_subset_num_batches: "),
        ("eval_loader.label=a/b", "eval_loader.label: "),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(argument, fault):
    with pytest.raises(UserError) as error:
        load_configuration(str(ROOT / "yamls" / "quickstart.yaml"), [argument], Training)
    assert fault in str(error.value)


def with_streams(run: Any, **weights: dict) -> Training:
    """The run's sequences as several streams, each from a copy of its own; its YAML is changed accordingly."""
    content = json.loads((run.folder / "run.yaml").read_text())
    dataset = content["train_loader"]["dataset"]
    del dataset["remote"], dataset["local"]
    dataset["streams"] = {}
    for name, weight in weights.items():
        shutil.copytree(run.folder / "mds", run.folder / name)
        place = {"remote": str(run.folder / name), "local": str(run.folder / "cache" / name)}
        dataset["streams"][name] = {**place, **weight}
    (run.folder / "run.yaml").write_text(json.dumps(content))
    return Training.model_validate(content)


def test_every_stream_is_looked_at_and_counted(new_run):
    run = new_run("streams")
    config = with_streams(run, abstracts={"repeat": 2.0}, articles={"choose": 7}, books={})
    found = preflight(config, 1, probe_writing=False)
    assert found.faults == [] and found.samples == 100 + 7 + 50
    sheet = run_sheet(config, found, 1)
    assert "data, abstracts" in sheet and "50 sequences of 64, repeat 2" in sheet and "157 sequences" in sheet

    (run.folder / "articles" / "card.json").write_text(json.dumps({"tokenizer_sha256": "0" * 64, "vocab_size": 9999}))
    (run.folder / "books" / "train" / "index.json").write_text("{}")
    shutil.rmtree(run.folder / "abstracts")
    found = preflight(config, 1, probe_writing=False)
    assert len(found.faults) == 3 and len(found.missing) == 1
    assert any("not the tokenizer" in fault and "articles/card.json" in fault for fault in found.faults)
    assert any("ids up to 9998" in fault and "give 9999 or more" in fault for fault in found.faults)
    assert any("books/train/index.json: not the index" in fault for fault in found.faults)
    assert "streams.abstracts" in found.missing[0]


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({}, [{}, {}]),
        ({}, [{"repeat": 1.5}, {"choose": 9}]),
        ({}, [{"proportion": 3.0}, {"proportion": 1.0}]),
        ({"epoch_size": 64}, [{"proportion": 0.75}, {"proportion": 0.25}]),
        ({"epoch_size": 90}, [{}, {}]),
    ],
)
def test_an_epoch_takes_of_each_stream_what_its_weight_says_and_as_many_as_the_run_sheet_says(
    tmp_path, settings, weights
):
    from streaming import MDSWriter, Stream, StreamingDataset

    streams = {}
    for number, (weight, size) in enumerate(zip(weights, (40, 20), strict=True)):
        place = tmp_path / str(number)
        with MDSWriter(out=str(place), columns={"tokens": f"ndarray:uint16:{LENGTH}"}) as writer:
            for _ in range(size):
                writer.write({"tokens": np.full(LENGTH, number, dtype=np.uint16)})
        streams[f"s{number}"] = {"local": str(place), **weight}
    dataset = Dataset.model_validate({"streams": streams, "num_canonical_nodes": 1, **settings})
    sizes = dict(zip(dataset.by_key(), (40, 20), strict=True))
    streamed = StreamingDataset(
        streams=[Stream(**stream.model_dump()) for stream in (dataset.streams or {}).values()],
        batch_size=1, num_canonical_nodes=1, epoch_size=dataset.epoch_size,
    )  # fmt: skip
    seen = Counter(int(sample["tokens"][0]) for sample in streamed)
    assert seen.total() == samples_per_epoch(dataset, sizes)
    if "proportion" in weights[0]:
        assert seen[0] == 3 * seen[1]
    if "repeat" in weights[0]:
        assert seen == {0: 60, 1: 9}


@pytest.mark.slow
def test_two_runs_share_a_machine_and_one_of_them_is_killed_and_started_again(new_run):
    """Each has two streams. What the killed one left in shared memory goes, what the living one has there stays."""
    alone, killed = new_run("alone"), new_run("killed")
    never = "1000000ba"  # nobody reads what it says: the pipe would fill up and stop it
    living = new_run("living", max_duration=never, save_interval=never, console_log_interval=never)
    for run in (alone, living, killed):
        with_streams(run, abstracts={"proportion": 3.0}, articles={"proportion": 1.0})
    alone.train(2)

    other = living.start(2)
    try:
        wait_for_batch(living, other, 3)
        killed.train_and_kill(2, at_batch=7, saved="ep0-ba5")
        assert leftovers(killed)
        assert "in use by another run" in refused(living)
        killed.train(2)
        assert leftovers(living) and not leftovers(killed)
        wait_for_batch(living, other, max(living.metrics()) + 20)  # over the end of an epoch, of 12 batches
    finally:
        kill(other)
    assert killed.losses() == alone.losses()
    assert len(living.losses()) == max(living.metrics())
    claim_caches([str(living.folder / "cache" / name) for name in ("abstracts", "articles")]).close()
    assert not leftovers(living)


def wait_for_batch(run: Any, process: "subprocess.Popen[str]", batch: int) -> None:
    deadline = time.monotonic() + 120
    while batch not in run.metrics():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=30)[0]
        time.sleep(0.05)


def kill(process: "subprocess.Popen[str]") -> None:
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.communicate()


def leftovers(run: Any) -> list[Path]:
    """Tables in shared memory that name the run's caches."""
    here = str(run.folder / "cache").encode()
    return [table for table in SHARED_MEMORY.glob("*_locals") if here.lstrip(b"/") in table.read_bytes()]


def refused(run: Any) -> str:
    """What a second run on the same caches is told."""
    process = run.start(
        1, "run_name=second", f"run_folder={run.folder}/second", f"save_folder={run.folder}/second/saved"
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    return output


def test_a_run_numbers_its_segments_from_where_its_ranks_have_drawn_whatever_others_begin_or_end(
    packed, tmp_path, monkeypatch
):
    """Else each rank counts from 0 on its own, and ranks differ when another run begins or ends meanwhile."""
    monkeypatch.setattr(streaming_numbers, "_each_prefix_int", streaming_numbers._each_prefix_int)
    drawn: list[int] = []
    monkeypatch.setattr("recipes.shard_cache.dist.all_gather_object", lambda mine: drawn.append(mine) or [*drawn, 7])
    number_segments_apart()
    assert 0 <= drawn[0] < 900_000

    def number(name: str) -> int:
        shutil.copytree(packed / "mds", tmp_path / name)
        datasets.append(PackedSequences(10**6, local=str(tmp_path / name), split="train", batch_size=2))
        return datasets[-1]._shm_prefix_int - drawn[0]

    datasets: list[PackedSequences] = []
    assert (number("training"), number("validation")) == (0, 1)


def test_a_cache_within_anothers_is_refused_while_that_lives(tmp_path, monkeypatch):
    from recipes import shard_cache

    monkeypatch.setattr(shard_cache, "WAIT_SECONDS", 0.2)
    outer, inner, beside = (str(tmp_path / name) for name in ("cache", "cache/a", "other"))
    with shard_cache.claim_caches([inner, beside]):
        with pytest.raises(UserError, match="cache/a is in use by another run"):
            shard_cache.claim_caches([outer])
        with pytest.raises(UserError, match="other is in use by another run"):
            shard_cache.claim_caches([beside])
    with shard_cache.claim_caches([outer]), pytest.raises(UserError, match="not within or around"):
        shard_cache.claim_caches([inner])
    shard_cache.claim_caches([outer, inner]).close()  # both are ours
