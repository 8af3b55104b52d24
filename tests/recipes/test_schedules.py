"""The trunk of a schedule does not depend on the run's length; a decay from one of its checkpoints is the whole run."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from small_data import LENGTH, SEQUENCES

from model.load import open_model
from recipes.metrics import NORM, series
from recipes.preflight import preflight
from recipes.schema import Training

LR = "lr-AdamW/group0"
DECAYING = {"name": "warmup_stable_decay", "t_warmup": "4ba", "t_decay": "8ba"}
CONSTANT = {"name": "constant_with_warmup", "t_warmup": "4ba"}
EXCLUDED = {"name": "decoupled_adamw", "lr": 1e-3, "weight_decay": 1e-2,
            "no_weight_decay": ["embeddings", "norms", "biases"]}  # fmt: skip


def config(run, **changes: Any) -> Training:
    return Training.model_validate({**json.loads((run.folder / "run.yaml").read_text()), **changes})


@pytest.mark.parametrize("form", ["1-sqrt", "linear"])
def test_the_multiplier_before_the_decay_does_not_depend_on_the_length_of_the_run(multipliers, form):
    short = multipliers({**DECAYING, "form": form}, "20ba", 20)
    long = multipliers({**DECAYING, "form": form}, "40ba", 40)
    trunk = multipliers(CONSTANT, "1000ba", 40)
    assert short[:13] == long[:13] == trunk[:13]
    assert long[:33] == trunk[:33]
    assert short[:5] == [0, 0.25, 0.5, 0.75, 1.0] and short[12] == 1.0
    assert short[13] < 1 and long[33] < 1


def test_the_decay_has_the_form_that_is_asked_for_and_ends_at_alpha_f(multipliers):
    root = multipliers({**DECAYING, "alpha_f": 0.1}, "20ba", 20)
    line = multipliers({**DECAYING, "form": "linear"}, "20ba", 20)
    assert root[12:] == pytest.approx([0.1 + 0.9 * (1 - math.sqrt(x / 8)) for x in range(9)])
    assert line[12:] == pytest.approx([1 - x / 8 for x in range(9)])
    assert root[20] == pytest.approx(0.1) and line[20] == 0


@pytest.mark.parametrize(
    ("t_warmup", "t_decay", "max_duration"),
    [
        ("4ba", "8ba", "5120tok"),
        ("1024tok", "2048tok", "20ba"),
        ("16sp", "0.4dur", "20ba"),
        ("0.2dur", "32sp", "5120tok"),
        ("4ba", "8ba", "80sp"),
    ],
)
def test_times_in_any_unit_give_the_same_schedule(multipliers, t_warmup, t_decay, max_duration):
    expected = multipliers(DECAYING, "20ba", 20)
    scheduler = {**DECAYING, "t_warmup": t_warmup, "t_decay": t_decay}
    assert multipliers(scheduler, max_duration, 20) == pytest.approx(expected)


def test_epochs_and_batches_go_together(multipliers):
    scheduler = {**DECAYING, "t_warmup": "1ep", "t_decay": "1ep"}
    in_batches = {**DECAYING, "t_warmup": "12ba", "t_decay": "12ba"}
    assert multipliers(scheduler, "3ep", 36) == pytest.approx(multipliers(in_batches, "36ba", 36))
    assert multipliers(DECAYING, "3ep", 36) == pytest.approx(multipliers(DECAYING, "36ba", 36))


def test_a_warmup_in_batches_is_taken_in_a_cosine_over_tokens_too(multipliers):
    """As in yamls/biomedlm.yaml. Composer alone refuses it at the first batch."""
    in_batches = multipliers({"name": "cosine_with_warmup", "t_warmup": "4ba"}, "20ba", 20)
    assert multipliers({"name": "cosine_with_warmup", "t_warmup": "4ba"}, "5120tok", 20) == pytest.approx(in_batches)


@pytest.mark.slow
def test_a_trunk_decayed_later_is_the_run_that_decays_and_groups_survive_it_bit_for_bit(new_run):
    """Two ranks, dropout on, two groups of parameters; the trunk is saved within its second epoch, at 15 and at 20."""
    monitor = {"lr_monitor": {}}
    whole = new_run("whole", optimizer=EXCLUDED, callbacks=monitor, scheduler=DECAYING, max_duration="24ba")
    trunk = new_run("trunk", optimizer=EXCLUDED, callbacks=monitor, scheduler=CONSTANT, max_duration="20ba")
    whole.train(2)
    trunk.train(2)
    start = trunk.checkpoints / "ep1-ba15"
    decayed = new_run("decayed", optimizer=EXCLUDED, callbacks=monitor, scheduler=DECAYING, max_duration="24ba",
                      load_path=str(start))  # fmt: skip
    assert "resumed at batch 15" in decayed.train(2)
    assert decayed.losses() == whole.losses()[15:]
    assert series(decayed.metrics(), NORM)[1] == series(whole.metrics(), NORM)[1][15:]
    assert series(decayed.metrics(), LR)[1] == series(whole.metrics(), LR)[1][15:]
    assert series(whole.metrics(), LR)[1][-1] < 2e-4

    longer = new_run("longer", optimizer=EXCLUDED, callbacks=monitor, scheduler=DECAYING, max_duration="30ba",
                     load_path=str(trunk.checkpoints / "ep1-ba20"))  # fmt: skip
    longer.train(2)
    rates = series(longer.metrics(), LR)[1]
    assert rates[0] == rates[2] == 1e-3 and rates[-1] < 2e-4 and len(rates) == 10

    shard = start / "__1_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    refused = new_run("refused", optimizer=EXCLUDED, scheduler=DECAYING, max_duration="24ba", load_path=str(start))
    process = refused.start(2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "__1_0.distcp: its sha256 is not the manifest's" in output and refused.losses() == []


@pytest.mark.slow
def test_a_decay_on_other_data_has_the_trunk_s_weights_and_begins_an_epoch_in_an_order_of_its_own(new_run, tmp_path):
    """The trunk stands within its second epoch; the other data have another seed and twice the canonical nodes."""
    from streaming import MDSWriter, StreamingDataset

    sequences = [(number + 5 * np.arange(LENGTH)) % 97 for number in range(SEQUENCES)]
    with MDSWriter(out=str(tmp_path / "other" / "train"), columns={"tokens": f"ndarray:uint16:{LENGTH}"}) as writer:
        for sequence in sequences:
            writer.write({"tokens": sequence.astype(np.uint16)})
    still = {"model": {"name": "gpt", "d_model": 32, "n_heads": 2, "n_layers": 2, "attn_pdrop": 0.0,
                       "resid_pdrop": 0.0, "embd_pdrop": 0.0}}  # fmt: skip
    trunk = new_run("trunk", **still, scheduler=CONSTANT, max_duration="15ba")
    trunk.train(1)
    start = trunk.checkpoints / "ep1-ba15"
    dataset = {"remote": str(tmp_path / "other"), "split": "train", "shuffle": True, "shuffle_seed": 8,
               "num_canonical_nodes": 2}  # fmt: skip
    changes = {**still, "scheduler": DECAYING, "max_duration": "30ba", "load_path": str(start),
               "load_dataset_state": False}  # fmt: skip
    loaders = {name: {"name": "text", "dataset": {**dataset, "local": str(tmp_path / name)}}
               for name in ("whole", "killed")}  # fmt: skip
    whole = new_run("whole", **changes, train_loader=loaders["whole"])
    killed = new_run("killed", **changes, train_loader=loaders["killed"])
    whole.train(2)
    killed.train_and_kill(2, at_batch=22, saved="ep1-ba20")
    killed.train(2)

    shuffled = StreamingDataset(local=str(tmp_path / "other"), split="train", batch_size=4, shuffle=True,
                                shuffle_seed=8, num_canonical_nodes=2)  # fmt: skip
    epochs = [[sample["tokens"].astype(np.int64) for sample in shuffled] for _ in range(2)]
    assert not np.array_equal(epochs[0][:4], epochs[1][:4])
    with open_model(str(start)) as loaded:
        ids = torch.from_numpy(np.stack(epochs[1][:4]))
        expected = float(loaded.model(ids, labels=ids))
    assert whole.losses()[0] == pytest.approx(expected, rel=1e-5)
    # 12 batches an epoch: with the trunk's place its second epoch would have ended at batch 24.
    assert {"ep1-ba20", "ep1-ba25", "ep2-ba30"} <= {place.name for place in whole.checkpoints.iterdir()}
    assert killed.losses() == whole.losses() and len(whole.losses()) == 15
    assert series(whole.metrics(), NORM) == series(killed.metrics(), NORM)


@pytest.mark.slow
def test_groups_of_parameters_resume_bit_for_bit_after_a_kill(new_run):
    whole = new_run("whole", optimizer=EXCLUDED, save_interval="4ba")
    killed = new_run("killed", optimizer=EXCLUDED, save_interval="4ba")
    decays = new_run("decays", optimizer={**EXCLUDED, "no_weight_decay": []})
    whole.train(2)
    killed.train_and_kill(2, at_batch=6, saved="ep0-ba4")
    killed.train(2)
    assert killed.losses() == whole.losses()
    assert series(killed.metrics(), NORM) == series(whole.metrics(), NORM)
    decays.train(2)
    assert decays.losses()[0] == whole.losses()[0] and decays.losses()[-1] != whole.losses()[-1]


@pytest.mark.slow
def test_a_threshold_of_infinity_logs_the_norm_and_clips_nothing(new_run):
    logged, without = new_run("logged"), new_run("without", algorithms={})
    logged.train(2, "algorithms.gradient_clipping.clipping_threshold=.inf")
    without.train(2)
    assert logged.losses() == without.losses()
    assert series(without.metrics(), NORM)[1] == []
    assert len(series(logged.metrics(), NORM)[1]) == 20


def test_a_schedule_longer_than_the_run_is_told_when_only_the_data_show_it(new_run):
    run = config(new_run("epochs"), scheduler={**DECAYING, "t_warmup": "5ba", "t_decay": "8ba"}, max_duration="1ep")
    assert any("scheduler.t_decay" in fault for fault in preflight(run, 1, False).faults)
