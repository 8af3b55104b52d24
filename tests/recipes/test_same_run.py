"""A checkpoint is gone on from as what it was trained as: what would be ignored, repeated or would jump is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import read_manifest, write_manifest
from recipes.findings import Findings
from recipes.preflight import preflight
from recipes.run_sheet import run_sheet
from recipes.same_run import trained_with
from recipes.schema import Training

CONSTANT = {"name": "constant_with_warmup", "t_warmup": "4ba"}
DECAYING = {"name": "warmup_stable_decay", "t_warmup": "4ba", "t_decay": "8ba"}
COSINE = {"name": "cosine_with_warmup", "t_warmup": "4ba"}
ADAMW = {"name": "decoupled_adamw", "lr": 1e-3, "weight_decay": 1e-4}
MODEL = {"name": "gpt", "d_model": 32, "n_heads": 2, "n_layers": 2}


def config(run, **changes: Any) -> Training:
    """``a__b=…`` changes the key a.b."""
    content = json.loads((run.folder / "run.yaml").read_text())
    for key, value in changes.items():
        *sections, last = key.split("__")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return Training.model_validate(content)


def save(run, batch: int, manifest: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A checkpoint of the run at ``batch``, as far as a preflight looks; 4 x 64 tokens a batch, 12 batches an epoch."""
    wanted = config(run, **changes)
    found = preflight(wanted, 1, False)
    assert found.model is not None
    written = {
        "epoch": batch // 12,
        "batch": batch,
        "token": batch * wanted.tokens_per_batch,
        "model": found.model.to_dict(),
        "trained_with": trained_with(wanted, found),
        "files": {"tokenizer.json": {"size": 1, "sha256": found.tokenizer_sha256}},
    }
    place = run.checkpoints / f"ep{batch // 12}-ba{batch}"
    place.mkdir(parents=True)
    write_manifest(str(place), written | (manifest or {}))
    return place


def look(run, **changes: Any) -> Findings:
    return preflight(config(run, **changes), 1, False)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("optimizer__lr", 2e-3, "optimizer.lr: 0.001 there, 0.002 here"),
        ("optimizer__betas", [0.9, 0.99], "optimizer.betas: [0.9, 0.95] there, [0.9, 0.99] here"),
        ("optimizer__no_weight_decay", ["norms"], "optimizer.no_weight_decay: [] there, ['norms'] here"),
        ("train_loader__dataset__shuffle", False, "train_loader.dataset.shuffle: True there, False here"),
        ("train_loader__dataset__shuffle_seed", 4, "train_loader.dataset.shuffle_seed: 3 there, 4 here"),
        ("train_loader__dataset__shuffle_algo", "py1s", "train_loader.dataset.shuffle_algo: py1e there, py1s here"),
        ("train_loader__dataset__shuffle_block_size", 8, "train_loader.dataset.shuffle_block_size: None there, 8 here"),
        ("train_loader__dataset__num_canonical_nodes", 2, "num_canonical_nodes: 1 there, 2 here"),
        ("train_loader__dataset__epoch_size", 40, "train_loader.dataset.epoch_size: 50 there, 40 here"),
        ("train_loader__dataset__split", "val", "train_loader.dataset: 50 sequences of index"),
        ("train_loader__drop_last", False, "train_loader.drop_last: True there, False here"),
        ("global_train_batch_size", 8, "global_train_batch_size: 4 there, 8 here"),
        ("model__resid_pdrop", 0.0, "model.resid_pdrop: 0.1 there, 0.0 here"),
        ("model__z_loss", 1e-4, "model.z_loss: 0.0 there, 0.0001 here"),
        ("model__n_heads", 4, "model.n_heads: 2 there, 4 here"),
        ("algorithms", {}, "algorithms.gradient_clipping.clipping_threshold: 1.0 there, None here"),
        ("precision", "amp_bf16", "precision: fp32 there, amp_bf16 here"),
        ("fsdp_config__mixed_precision", "PURE", "fsdp_config.mixed_precision: DEFAULT there, PURE here"),
        ("max_duration", "40ba", "37.50 % of a cosine decay to 0.1 there, 16.67 % of a cosine decay to 0.1 here"),
        ("scheduler__alpha_f", 0.2, "of a cosine decay to 0.1 there, 37.50 % of a cosine decay to 0.2 here"),
    ],
)  # fmt: skip
def test_what_matters_may_not_change_when_a_run_goes_on(new_run, key, value, told):
    run = new_run("run", scheduler=COSINE)
    save(run, 10)
    (fault,) = look(run, **{key: value}).faults
    assert told in fault and fault.count(" there, ") == 1
    assert fault.startswith(f"save_folder: {run.checkpoints}/ep0-ba10 was trained otherwise\n")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"device_train_microbatch_size": "auto", "compile_config": {}},
        {"fsdp_config__sharding_strategy": "SHARD_GRAD_OP", "fsdp_config__activation_checkpointing": True},
        {"train_loader__num_workers": 0, "seed": 4, "save_interval": "7ba", "eval_interval": "3ba"},
        {"train_loader__dataset__predownload": 9, "train_loader__dataset__cache_limit": "1mb"},
        {"max_duration": "5120tok"},  # the same 20 batches
        {"max_duration": "20ba", "scheduler": {**COSINE, "t_warmup": "1024tok", "t_max": "80sp"}},
        {"optimizer": {**ADAMW, "no_weight_decay": ["norms", "biases"]}},
    ],
)  # fmt: skip
def test_what_only_shares_the_work_out_or_says_the_same_is_free(new_run, changes):
    run = new_run("run", scheduler=COSINE, optimizer={**ADAMW, "no_weight_decay": ["biases", "norms"]})
    save(run, 10)
    for ranks in (1, 2, 4):
        assert preflight(config(run, **{"device_train_microbatch_size": 1, **changes}), ranks, False).faults == []


def test_data_are_what_they_hold_wherever_they_lie(new_run):
    run = new_run("run")
    save(run, 10)
    shutil.move(run.folder / "mds", run.folder / "moved")
    assert look(run, train_loader__dataset__remote=str(run.folder / "moved")).faults == []

    index = run.folder / "moved" / "train" / "index.json"
    content = json.loads(index.read_text())
    content["shards"][3]["raw_data"]["hashes"]["sha1"] = "0" * 40  # as many sequences, other ones
    index.write_text(json.dumps(content))
    (fault,) = look(run, train_loader__dataset__remote=str(run.folder / "moved")).faults
    assert "train_loader.dataset: 50 sequences of index" in fault


def streams(run: Any, **weights: dict[str, Any]) -> dict[str, Any]:
    return {"split": "train", "shuffle": True, "streams": {
        name: {"remote": str(run.folder / "mds"), "local": str(run.folder / "cache" / name), **weight}
        for name, weight in weights.items()
    }}  # fmt: skip


def test_streams_are_compared_in_their_order_with_what_an_epoch_takes_of_each(new_run):
    run = new_run("run")
    three_to_one = streams(run, a={"proportion": 3.0}, b={"proportion": 1.0, "split": "val"})
    save(run, 10, train_loader__dataset=three_to_one)
    same = streams(run, renamed={"proportion": 0.75}, too={"proportion": 0.25, "split": "val"})
    assert look(run, train_loader__dataset=same).faults == []
    halves = streams(run, a={"proportion": 1.0}, b={"proportion": 1.0, "split": "val"})
    (fault,) = look(run, train_loader__dataset=halves).faults
    assert "streams.a, of an epoch: share 0.75 there, share 0.5 here" in fault
    turned = streams(run, b={"proportion": 1.0, "split": "val"}, a={"proportion": 3.0})
    (fault,) = look(run, train_loader__dataset=turned).faults
    assert "streams.b: 50 sequences of index" in fault and "streams.a: 13 sequences of index" in fault
    (fault,) = look(run, train_loader__dataset=streams(run, a={"proportion": 1.0})).faults
    assert "train_loader.dataset.streams: 2 there, 1 here" in fault


def test_all_differences_are_told_at_once_with_what_to_do(new_run):
    run = new_run("run", scheduler=COSINE)
    place = save(run, 10, {"files": {"tokenizer.json": {"size": 1, "sha256": "0" * 64}}})
    changes = {"model__n_heads": 4, "optimizer__lr": 2e-3, "max_duration": "30ba", "model__z_loss": 1e-4,
               "train_loader__dataset__shuffle_seed": 4}  # fmt: skip
    (fault,) = look(run, **changes).faults
    assert fault.count(" there, ") == 6
    for key in ("tokenizer.name", "model.n_heads", "optimizer.lr", "max_duration", "model.z_loss", "shuffle_seed"):
        assert key in fault
    for remedy in ("begin anew", "same data in the same order", "begin another run from this checkpoint (load_path"):
        assert remedy in fault
    assert str(place) in fault


def test_a_checkpoint_that_tells_less_is_gone_on_from(new_run):
    """What was written before there was ``trained_with``, or with less in it: the rest is compared."""
    run = new_run("run")
    place = save(run, 10)
    manifest = read_manifest(str(place))
    del manifest["trained_with"]["order"]["train_loader.dataset.shuffle_seed"], manifest["trained_with"]["optimizer"]
    write_manifest(str(place), manifest)
    assert look(run, train_loader__dataset__shuffle_seed=4, optimizer__lr=1.0).faults == []
    assert len(look(run, train_loader__dataset__shuffle=False).faults) == 1
    del manifest["trained_with"]
    write_manifest(str(place), manifest)
    assert look(run, max_duration="40ba", precision="amp_bf16").faults == []
    assert len(look(run, model__n_heads=4).faults) == 1


def test_a_manifest_that_cannot_be_read_gives_way_to_the_one_before_and_that_is_compared(new_run):
    run = new_run("run", scheduler=CONSTANT)
    save(run, 5)
    newest = save(run, 10)
    (newest / "manifest.json").write_text("{}")
    found = look(run)
    assert found.faults == [] and found.resume_from is not None and found.resume_from.batch == 5
    assert any("damaged" in warning and "one before it" in warning for warning in found.warnings)
    assert "ep0-ba5 was trained otherwise" in look(run, optimizer__lr=1.0).faults[0]
    (run.checkpoints / "ep0-ba5" / "manifest.json").write_text("{}")
    assert any("every checkpoint there is damaged" in fault for fault in look(run).faults)


@pytest.mark.parametrize(
    ("batch", "there", "here", "jump"),
    [
        (10, (COSINE, "20ba"), (COSINE, "21ba"), True),
        (3, (COSINE, "20ba"), (COSINE, "40ba"), False),  # still in the warmup
        (4, (COSINE, "20ba"), (DECAYING, "40ba"), False),  # at its end
        (3, (COSINE, "20ba"), ({**COSINE, "t_warmup": "6ba"}, "20ba"), True),
        (10, (CONSTANT, "20ba"), (COSINE, "20ba"), True),
        (10, (CONSTANT, "20ba"), (CONSTANT, "1000ba"), False),
        (10, (CONSTANT, "20ba"), (DECAYING, "24ba"), False),
        (10, (CONSTANT, "20ba"), ({**DECAYING, "t_warmup": "8ba"}, "24ba"), False),  # both over
        (12, (DECAYING, "20ba"), (DECAYING, "40ba"), False),  # the decay begins after it
        (13, (DECAYING, "20ba"), (DECAYING, "40ba"), True),
        (13, (DECAYING, "20ba"), ({**DECAYING, "form": "linear"}, "20ba"), True),
        (13, (DECAYING, "20ba"), ({**DECAYING, "alpha_f": 0.1}, "20ba"), True),
        (13, (DECAYING, "20ba"), ({**DECAYING, "t_decay": "0.4dur"}, "5120tok"), False),
        (15, (CONSTANT, "20ba"), (DECAYING, "20ba"), True),
        (10, (COSINE, "2ep"), (COSINE, "24ba"), False),
        (10, (COSINE, "2ep"), (COSINE, "3ep"), True),
        (10, ({**COSINE, "t_max": "40ba"}, "20ba"), (COSINE, "40ba"), False),  # as planned: it was cut in two
    ],
)
def test_a_schedule_may_change_where_the_learning_rate_does_not_jump(new_run, batch, there, here, jump):
    trunk, same, other = new_run("trunk"), new_run("same"), new_run("other")
    place = save(trunk, batch, scheduler=there[0], max_duration=there[1])
    shutil.copytree(place, same.checkpoints / place.name)
    changed = {"scheduler": here[0], "max_duration": here[1]}
    for found in (look(same, **changed), look(other, load_path=str(place), **changed)):
        assert [fault for fault in found.faults if "would jump" in fault] == found.faults
        assert bool(found.faults) == jump, found.faults


@pytest.mark.parametrize("max_duration", ["24ba", "6144tok", "96sp", "2ep"])
@pytest.mark.parametrize("scheduler", [COSINE, CONSTANT, DECAYING], ids=lambda scheduler: scheduler["name"])
def test_where_two_schedules_are_said_to_agree_composer_gives_one_rate(new_run, multipliers, scheduler, max_duration):
    """Against what Composer computes, batch by batch: no jump is let through and none is invented."""
    others = [(CONSTANT, "24ba"), (COSINE, "24ba"), (COSINE, "30ba"), (DECAYING, "24ba"), (DECAYING, "7680tok"),
              ({**DECAYING, "form": "linear"}, "24ba"), ({**COSINE, "t_warmup": "6ba"}, "24ba")]  # fmt: skip
    before = multipliers(scheduler, max_duration, 24)
    run = new_run("run")
    places = {batch: save(run, batch, scheduler=scheduler, max_duration=max_duration) for batch in range(1, 24)}
    for number, (other, length) in enumerate(others):
        after = multipliers(other, length, 24)
        branch = new_run(f"branch{number}")
        for batch, place in places.items():
            found = look(branch, load_path=str(place), scheduler=other, max_duration=length)
            assert bool(found.faults) == (abs(before[batch] - after[batch]) > 1e-9), (batch, found.faults)


def test_a_larger_batch_moves_the_checkpoint_on_a_schedule_in_epochs_and_not_on_one_in_tokens(new_run):
    """Ten batches of four are ten of 24, or of 12 when the batch is doubled; tokens stay what they are."""
    for max_duration, jump in (("2ep", True), ("6144tok", False)):
        trunk = new_run(f"trunk-{max_duration}", scheduler=COSINE, max_duration=max_duration)
        branch = new_run(
            f"branch-{max_duration}", scheduler={**COSINE, "t_warmup": "1024tok"}, max_duration=max_duration
        )
        found = look(branch, load_path=str(save(trunk, 10)), global_train_batch_size=8)
        assert len(found.faults) == jump
        assert all("30.00 % of" in fault and "80.00 % of" in fault for fault in found.faults), found.faults
        if not jump:  # 40 sequences in ten batches, and 56 in seven
            assert (found.batches, found.sequences, found.trained) == (17, 96, 40)


def test_another_run_may_change_what_a_step_computes_and_is_told_so(new_run):
    trunk, branch = new_run("trunk", scheduler=CONSTANT), new_run("branch", scheduler=CONSTANT)
    place = save(trunk, 10)
    found = look(branch, load_path=str(place), global_train_batch_size=8, model__attn_pdrop=0.0)
    assert found.faults == []
    (warning,) = [warning for warning in found.warnings if "trained otherwise" in warning]
    assert "global_train_batch_size: 4 there, 8 here" in warning and "model.attn_pdrop: 0.1 there, 0.0 here" in warning
    (fault,) = look(branch, load_path=str(place), train_loader__dataset__shuffle_seed=4).faults
    assert "load_path" in fault and "shuffle_seed: 3 there, 4 here" in fault


def test_the_data_may_change_where_their_epoch_begins_anew_and_nowhere_else(new_run):
    """With ``load_dataset_state: false``, at the checkpoint of another run; the optimizer may not even there."""
    trunk, branch = new_run("trunk", scheduler=CONSTANT), new_run("branch", scheduler=CONSTANT)
    place = str(save(trunk, 10))
    other = {
        "load_dataset_state": False,
        "train_loader__dataset__split": "val",
        "train_loader__dataset__shuffle_seed": 4,
    }
    found = look(branch, load_path=place, **other)
    assert found.faults == []
    (warning,) = [warning for warning in found.warnings if "trained otherwise, and from here on" in warning]
    assert "train_loader.dataset: 50 sequences of index" in warning and "shuffle_seed: 3 there, 4 here" in warning
    sheet = run_sheet(config(branch, load_path=place, **other), found, 1)
    assert re.search(r"epochs +3\.08 from the checkpoint on", sheet)  # 10 batches of 4 are left, of 13 sequences
    (fault,) = look(branch, load_path=place, optimizer__lr=2e-3, **other).faults
    assert "optimizer.lr" in fault and "shuffle_seed" not in fault
    save(branch, 15, **other, load_path=place)
    assert look(branch, load_path=place, **other).faults == []
    (fault,) = look(branch, load_path=place, **{**other, "train_loader__dataset__split": "train"}).faults
    assert "begin an epoch of other data" in fault and "train_loader.dataset: 13 sequences of index" in fault


def test_load_path_is_one_whole_checkpoint_that_lies_before_the_end(new_run):
    trunk, branch = new_run("trunk", scheduler=CONSTANT), new_run("branch", scheduler=CONSTANT)
    place = str(save(trunk, 15))
    sound = look(branch, load_path=place)
    assert sound.faults + sound.missing == []
    assert sound.resume_from is not None and sound.resume_from.batch == 15
    assert "not a whole checkpoint" in look(branch, load_path="/nowhere/ep0-ba3").missing[0]
    assert f"the newest whole checkpoint in it is {place}" in look(branch, load_path=str(trunk.checkpoints)).missing[0]
    for over in ("15ba", "3840tok", "60sp"):
        assert "load_path is at batch 15 already" in look(branch, load_path=place, max_duration=over).faults[0]
    larger = look(branch, load_path=place, max_duration="5120tok", global_train_batch_size=8)  # 10 batches, 3840 done
    assert larger.faults == []


def test_a_runs_own_checkpoints_come_before_load_path(new_run):
    trunk, run = new_run("trunk"), new_run("run")
    save(run, 5)
    found = look(run, load_path=str(save(trunk, 15)))
    assert found.faults == [] and found.resume_from is not None and found.resume_from.batch == 5


@pytest.mark.slow
def test_a_real_run_records_what_it_was_trained_with_and_goes_on_only_as_that(new_run):
    """Two ranks; the data lie elsewhere when it goes on, which changes nothing."""
    whole, run = new_run("whole"), new_run("run")
    whole.train(2)
    run.train(2, "max_duration=10ba", "scheduler.t_max=20ba")
    wanted = config(run, max_duration="10ba", scheduler__t_max="20ba")
    assert run.manifest("ep0-ba10")["trained_with"] == trained_with(wanted, preflight(wanted, 2, False))

    process = run.start(2, "train_loader.dataset.shuffle_seed=4", "max_duration=30ba")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert output.count("was trained otherwise") == 1 and "Traceback" not in output
    assert "shuffle_seed: 3 there, 4 here" in output and "would jump" in output

    shutil.move(run.folder / "mds", run.folder / "moved")
    run.train(2, f"train_loader.dataset.remote={run.folder / 'moved'}",
              f"train_loader.dataset.local={run.folder / 'cache2'}")  # fmt: skip
    assert run.losses() == whole.losses()
