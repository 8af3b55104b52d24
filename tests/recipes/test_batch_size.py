"""A batch that grows takes the sequences of one that does not, in their order; every count of batches knows of it."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import LENGTH, SEQUENCES

from base.configuration import load_configuration
from base.errors import UserError
from model.checkpoint import list_checkpoints, write_manifest
from recipes.batch_size import BatchSizes
from recipes.metrics import NORM, series
from recipes.preflight import preflight
from recipes.run_sheet import run_sheet
from recipes.same_run import trained_with
from recipes.schema import Training
from recipes.times import duration_in_batches

ROOT = Path(__file__).parents[2]
NO_DROPOUT = {"model.attn_pdrop=0.0", "model.resid_pdrop=0.0", "model.embd_pdrop=0.0"}
WARMUP = {"double_at": ["40sp", f"{60 * LENGTH}tok"]}  # of 50 sequences an epoch: the second in the second epoch
GROWING: dict[str, Any] = {
    "batch_size_warmup": WARMUP,
    "global_train_batch_size": 8,
    "device_train_microbatch_size": 1,
    "scheduler": {"name": "cosine_with_warmup", "t_warmup": "640tok"},
    "max_duration": f"{130 * LENGTH}tok",
}
SIZES = [2] * 20 + [4] * 5 + [8] * 9  # 132 sequences: 48 of the first epoch, 44 of the second


def config(run: Any, **changes: Any) -> Training:
    return Training.model_validate({**json.loads((run.folder / "run.yaml").read_text()), **changes})


@pytest.mark.parametrize("double_at", [(), (8,), (8, 24), (7, 30, 31), (1, 2, 3), (16, 17, 100), (3, 64)])
def test_sizes_and_counts_are_those_of_taking_batch_after_batch(double_at):
    sizes = BatchSizes(full=16, double_at=double_at)
    trained = [0]
    while trained[-1] < 300:
        trained.append(trained[-1] + 16 // 2 ** sum(trained[-1] < time for time in double_at))
    assert [sizes.at(samples) for samples in trained[:-1]] == [b - a for a, b in pairwise(trained)]
    assert [sizes.samples(batches) for batches in range(len(trained))] == trained
    for samples in range(300):
        assert sizes.batches(samples) == next(batch for batch, end in enumerate(trained) if end >= samples)
        for begin in (0, 3, len(trained) // 2):
            fitting = [end for end in trained[begin + 1 :] if end - trained[begin] <= samples]
            if trained[-1] - trained[begin] > samples:
                assert sizes.whole_batches(trained[begin], samples) == len(fitting)
    begins = [(samples, batch, size) for samples, batch, size in sizes.stages()]
    assert begins[-1][2] == 16 and all(trained[batch] == samples for samples, batch, _ in begins)


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        (["batch_size_warmup={double_at: []}"], ["batch_size_warmup.double_at: "]),
        (["batch_size_warmup={double_at: [5ba]}"], ["batch_size_warmup.double_at.0: must be in tok or sp"]),
        (["batch_size_warmup={double_at: [0tok]}"], ["batch_size_warmup.double_at.0: must be in tok or sp"]),
        (["batch_size_warmup={start: 4}"], ["batch_size_warmup.start: unknown key", "double_at: "]),
        (["batch_size_warmup={double_at: [64sp, 64sp]}"], ["double_at: must ascend"]),
        (["batch_size_warmup={double_at: [65sp, 8192tok]}"], ["double_at: must ascend"]),  # 64 sequences of 128
        (["batch_size_warmup={double_at: [1sp, 2sp, 3sp, 4sp, 5sp, 6sp]}"], ["6 doublings do not lead to"]),
        (["batch_size_warmup={double_at: [100000sp]}"], ["double_at: the batch is not full before the end"]),
        (
            ["batch_size_warmup={double_at: [1sp, 2sp]}", "device_train_microbatch_size=16"],
            ["device_train_microbatch_size: 16 does not divide the first batch of 8 sequences"],
        ),
        (
            ["batch_size_warmup={double_at: [64sp]}", "max_duration=2ep", "train_loader.drop_last=false"],
            ["max_duration: must be in tok, sp or ba with batch_size_warmup", "train_loader.drop_last: must be true"],
        ),
        (
            ["batch_size_warmup={double_at: [64sp]}", "scheduler.t_warmup=5ba", "max_duration=1000000tok"],
            ["scheduler.t_warmup: 5ba cannot be compared with max_duration 1000000tok while the batch grows"],
        ),
        (
            ["batch_size_warmup={double_at: [64sp]}", "scheduler.t_warmup=1ep", "max_duration=80ba"],
            ["scheduler.t_warmup: 1ep cannot be compared with max_duration 80ba while the batch grows"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_all_at_once(arguments, faults):
    with pytest.raises(UserError) as error:
        load_configuration(
            str(ROOT / "yamls" / "quickstart.yaml"), ["global_train_batch_size=32", *arguments], Training
        )
    assert all(fault in str(error.value) for fault in faults)
    assert f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in" in str(error.value), error.value


def test_every_rank_must_have_a_part_of_the_first_batch(new_run):
    wanted = config(new_run("ranks"), **GROWING)
    assert preflight(wanted, 2, False).faults == []
    (fault,) = preflight(wanted, 4, False).faults
    assert fault.startswith("batch_size_warmup: the first batch of 2 sequences is not divisible by the 4 ranks")
    (fault,) = preflight(config(new_run("micro"), **GROWING | {"device_train_microbatch_size": 2}), 2, False).faults
    assert "2 does not divide the first batch's 1 sequences of each of 2 ranks" in fault


def test_the_run_sheet_counts_every_size_by_its_own_batches(new_run):
    wanted = config(new_run("sheet"), **GROWING, hardware={"gpu": "h100_80gb", "count": 1})
    found = preflight(wanted, 1, False)
    sheet = " ".join(run_sheet(wanted, found, 1).split())
    assert found.batches == len(SIZES) == 34
    assert "tokens a batch 128 tokens a batch 256 after batch 20 (2,560 tokens)" in sheet
    assert "tokens a batch 512 after batch 25 (3,840 tokens) batches 34 tokens 8,448 epochs 2.64" in sheet
    for time, batches in (("34ba", 34), ("129sp", 34), ("124sp", 33), (f"{41 * LENGTH}tok", 21), ("1tok", 1)):
        assert duration_in_batches(time, wanted, SEQUENCES) == batches


def test_auto_takes_a_microbatch_of_the_smallest_batch():
    from model.config import GPTConfig
    from recipes.memory import GIB, largest_microbatch

    wanted = load_configuration(
        str(ROOT / "yamls" / "biomedlm_v2.yaml"),
        ["batch_size_warmup={double_at: [1_000_000_000tok, 3_000_000_000tok]}", "device_train_microbatch_size=auto"],
        Training,
    )
    assert largest_microbatch(wanted, GPTConfig(), 128, 80 * GIB) == 2  # of 1024 / 128 / 4
    assert largest_microbatch(wanted.model_copy(update={"batch_size_warmup": None}), GPTConfig(), 128, 80 * GIB) == 8


def test_a_batch_that_grows_otherwise_is_refused_when_the_run_goes_on(new_run):
    run = new_run("changed", **GROWING)
    found = preflight(config(run), 1, False)
    assert found.model is not None
    place = run.checkpoints / "ep0-ba20"
    place.mkdir(parents=True)
    manifest = {"model": found.model.to_dict(), "files": {}, "epoch": 0, "batch": 20, "token": 40 * LENGTH,
                "trained_with": trained_with(config(run), found)}  # fmt: skip
    write_manifest(str(place), manifest)
    assert preflight(config(run), 1, False).faults == []
    (fault,) = preflight(config(run, batch_size_warmup=None), 1, False).faults
    assert f"batch_size_warmup.double_at: {GROWING['batch_size_warmup']['double_at']} there, None here" in fault


def rows(loader: Any) -> list[np.ndarray[Any, Any]]:
    """The batches of one epoch."""
    return [batch["input_ids"] for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_growing_batch_takes_the_same_sequences_in_the_same_order_and_resumes_at_any_batch(new_run, workers):
    from recipes.build import build_train_data

    run = new_run("order", **GROWING)
    content = json.loads((run.folder / "run.yaml").read_text())
    content["train_loader"] |= {"num_workers": workers}
    (run.folder / "run.yaml").write_text(json.dumps(content))

    def loader(epochs_before: int = 0, sample: int = 0, trained: int = 0, **changes: Any) -> Any:
        """As the Trainer has it after a resume at ``sample`` of an epoch."""
        built: Any = build_train_data(config(run, **changes), vocab_size=1024).dataloader
        built.dataset.load_state_dict(
            built.dataset.state_dict(0, True) | {"epoch": epochs_before, "sample_in_epoch": sample}
        )
        built.next_sample, built.epoch_began = trained, trained - sample
        return built

    plain = [np.concatenate(rows(loader(epoch, batch_size_warmup=None, global_train_batch_size=2))) for epoch in (0, 1)]
    assert [len(epoch) for epoch in plain] == [50, 50] and not np.array_equal(*plain)
    first = loader()
    assert len(first) == 22
    growing = [rows(first), rows(loader(1, trained=48))]
    assert [len(batch) for batch in growing[0]] == SIZES[:22]
    assert [len(batch) for batch in growing[1]] == SIZES[22:29]
    for epoch, before in ((0, 0), (1, 48)):
        taken = np.concatenate(growing[epoch])
        assert np.array_equal(taken, plain[epoch][: len(taken)])
        place = 0
        for number, batch in enumerate(growing[epoch][: None if workers == 0 else 3]):
            resumed = loader(epoch, place, before + place)
            assert len(resumed) == len(growing[epoch])
            assert all(np.array_equal(a, b) for a, b in zip(rows(resumed), growing[epoch][number:], strict=True))
            place += len(batch)


def with_streams(run: Any) -> dict[str, Any]:
    """Two streams of the run's shards, half of each an epoch."""
    streams = {
        name: {"remote": str(run.folder / "mds"), "local": str(run.folder / "cache" / name), "proportion": 0.5}
        for name in ("abstracts", "articles")
    }
    dataset = {"streams": streams, "split": "train", "shuffle": True, "shuffle_seed": 3, "num_canonical_nodes": 1,
               "epoch_size": SEQUENCES}  # fmt: skip
    return {"train_loader": {"name": "text", "dataset": dataset}}


@pytest.mark.slow
def test_a_run_killed_twice_while_its_batch_grows_is_the_run_that_would_have_been_bit_for_bit(new_run):
    """Dropout on, two streams, two ranks; killed in the first epoch, and in the second before the last doubling."""
    held_out = {"local": "", "split": "val"}
    whole, killed = (new_run(name, **GROWING, callbacks={"lr_monitor": {}}) for name in ("whole", "killed"))
    for run in (whole, killed):
        validation = {"name": "text", "dataset": held_out | {"local": str(run.folder / "mds")}}
        content = json.loads((run.folder / "run.yaml").read_text()) | with_streams(run)
        content |= {"eval_loader": validation, "eval_interval": "8ba", "save_interval": "3ba"}
        (run.folder / "run.yaml").write_text(json.dumps(content))
    output = whole.train(2)
    killed.train_and_kill(2, at_batch=14, saved="ep0-ba12")
    killed.train_and_kill(2, at_batch=25, saved="ep1-ba24")
    assert "resumed at batch" in killed.train(2)

    assert series(whole.metrics(), "trainer/global_train_batch_size")[1] == SIZES
    for name in ("loss/train/total", NORM, "lr-AdamW/group0", "metrics/eval/LanguageCrossEntropy"):
        assert series(killed.metrics(), name) == series(whole.metrics(), name)
        assert series(whole.metrics(), name)[1]
    assert [entry["token"] for entry in whole.metrics().values()][-1] == sum(SIZES) * LENGTH
    found = preflight(config(whole), 2, False)
    assert found.batches == max(whole.metrics()) and f"batch {found.batches}/{found.batches} (100 %)" in output
    assert not any("batches had" in warning for warning in found.warnings)
    newest = list_checkpoints(str(whole.checkpoints))[-1]
    assert (newest.epoch, newest.batch) == (2, 34) and newest.whole
    assert whole.manifest("ep2-ba34")["token"] == sum(SIZES) * LENGTH
    assert "nothing left to train" in killed.train(2)


@pytest.mark.slow
def test_another_number_of_ranks_goes_on_at_the_right_sequence(new_run):
    """Killed on two ranks, it ends on one, where its second epoch does: after 92 sequences."""
    changes = GROWING | {"max_duration": f"{92 * LENGTH}tok", "save_interval": "4ba"}
    one, two = new_run("one", **changes), new_run("two", **changes)
    one.train(1, *NO_DROPOUT)
    two.train_and_kill(2, at_batch=10, saved="ep0-ba8", overrides=[*NO_DROPOUT])
    assert "resumed at batch" in two.train(1, *NO_DROPOUT)
    assert len(one.losses()) == 29
    assert two.losses() == pytest.approx(one.losses(), rel=1e-5)
    assert series(two.metrics(), NORM)[1] == pytest.approx(series(one.metrics(), NORM)[1], rel=1e-3)
