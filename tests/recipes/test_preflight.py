"""Whatever is wrong is said before torch is imported, all at once, with exit code 2."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from base.configuration import load_configuration
from base.errors import UserError
from eval.sample_questions import write_sample_questions
from recipes.preflight import preflight
from recipes.run_sheet import run_sheet
from recipes.schema import Training

ROOT = Path(__file__).parents[2]


def train_py(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    return subprocess.run(
        [sys.executable, "train.py", *arguments], cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )


def test_the_2_7b_run_sheet_is_printed_without_a_gpu_or_torch(tmp_path):
    start = time.monotonic()
    command = ["train.py", "yamls/biomedlm.yaml", "--check", f"variables.bucket={tmp_path}/bucket"]
    result = train_py(*command[1:])
    assert result.returncode == 0, result.stderr  # what is not there yet is told, and no fault
    assert "training would stop at it" in result.stdout and "tokenizer.json: no such file" in result.stdout
    assert "2,594,247,680" in result.stdout
    assert "286,103" in result.stdout  # batches: 300e9 tokens of 1,048,576
    assert "16.550 GFLOP" in result.stdout
    assert "128 x a100_40gb" in result.stdout
    assert time.monotonic() - start < 10
    modules = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=ROOT, capture_output=True, text=True
    ).stderr
    assert "recipes.preflight" in modules
    assert " torch\n" not in modules and " composer\n" not in modules


def sheet_of(yaml: str, *overrides: str) -> str:
    wanted = load_configuration(str(ROOT / "yamls" / yaml), list(overrides), Training)
    assert wanted.hardware is not None
    return run_sheet(wanted, preflight(wanted, wanted.hardware.count, False), wanted.hardware.count)


def test_rate_duration_cost_and_memory_of_the_2_7b_run_are_those_of_pencil_and_paper(tmp_path):
    rows = dict(re.findall(r"^  (.{28})(.*)$", sheet_of("biomedlm.yaml", f"variables.bucket={tmp_path}"), flags=re.M))
    rows = {name.strip(): value.strip() for name, value in rows.items()}
    flops = 6 * (32 * 12 * 2560**2 + 28896 * 2560) + 12 * 32 * 2560 * 1024
    rate = 0.581 * 312e12 / flops  # 10,953 tokens a second and GPU
    hours = 286_103 * 1_048_576 / rate / 3600
    assert rows["tokens a second"] == f"{rate / 1e3:.3g}k a GPU, {128 * rate / 1e6:.3g}M in all"
    days, rest = divmod(hours / 128, 24)
    assert rows["duration"] == f"{days:.0f}d{int(rest):02d}h"
    assert rows["GPU hours"] == f"{hours:,.0f}" and rows["cost"].startswith(f"{2 * hours:,.0f} USD at 2.00")
    sharded = 16 * 2_594_247_680 / 128  # parameters, gradients and two moments, in fp32
    root = (28896 + 1024) * 2560
    gathered = 2 * (2 * (2_594_247_680 - root) / 32 + root)
    activations = 8 * 1024 * 32 * 2560 * 37
    logits = 12 * 4096 * 28896 + 4 * 28896 * 2560
    assert rows["activations"] == f"{activations / 2**30:.2f} GiB"
    assert rows["total"] == f"{(sharded + gathered + activations + logits) / 2**30:.2f} GiB of 40 GiB: fits"


def test_the_rate_on_an_h200_is_the_one_of_the_record(tmp_path):
    record = json.loads((ROOT / "benchmarks" / "records" / "gpu-2026-11-27-3.json").read_text())["figures"]["trainer"]
    sheet = sheet_of("biomedlm.yaml", f"variables.bucket={tmp_path}", "hardware.gpu=h200_141gb")
    assert f"{record['tokens_per_second'] / 1e3:.1f}k a GPU" in sheet and f"at the {record['mfu']:.1%} MFU" in sheet


@pytest.mark.parametrize(
    ("yaml", "overrides", "unlike"),
    [
        ("biomedlm.yaml", [], None),
        ("ladder/1.5b.yaml", [], None),
        ("ladder/3m.yaml", [], "3,096,192 parameters"),
        ("biomedlm.yaml", ["fsdp_config.activation_checkpointing=true"], "activation_checkpointing"),
        ("biomedlm.yaml", ["float8={recipe_name: rowwise}", "hardware.gpu=h200_141gb"], "float8"),
        ("ladder/3m.yaml", ["precision=fp32"], "3,096,192 parameters, precision fp32"),
    ],
)
def test_a_rate_of_another_shape_or_setting_is_said_not_to_be_expected(tmp_path, yaml, overrides, unlike):
    sheet = sheet_of(yaml, f"variables.bucket={tmp_path}", *overrides)
    told = re.findall(r"NOT TO BE EXPECTED .*; here: (.*)", sheet)
    assert told == ([unlike] if unlike else [])


def test_three_faults_of_the_training_configuration_are_reported_together():
    result = train_py(
        "yamls/biomedlm.yaml", "fsdp_config.shardin_strategy=FULL_SHARD", "optimizer.lr=fast", "max_duration=3weeks"
    )
    assert result.returncode == 2
    assert "3 faults" in result.stderr
    assert "did you mean fsdp_config.sharding_strategy?" in result.stderr
    assert "optimizer.lr" in result.stderr and "max_duration" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("argument", "fault"),
    [
        ("callbacks.score_checkpoints.intervall=3ba", "did you mean callbacks.score_checkpoints.interval?"),
        ("callbacks.lr_monitor.every=3", "callbacks.lr_monitor.every: unknown key"),
        ("callbacks.memory_monitor={memory_key: {}}", "did you mean callbacks.memory_monitor.memory_keys?"),
        ("callbacks.runtime_estimator={time_unit: weeks}", "callbacks.runtime_estimator.time_unit: "),
        ("callbacks.score_checkpoints.interval=60sec", "callbacks.score_checkpoints.interval: must be in ba"),
        ("callbacks.score_checkpoints.interval=0ba", "callbacks.score_checkpoints.interval: must be at least 1"),
        ("scheduler.t_warmup=60sec", "scheduler.t_warmup: must be in ba"),
        ("max_duration=0ba", "max_duration: must be at least 1"),
        ("save_interval=0ba", "save_interval: must be at least 1"),
        ("console_log_interval=0ba", "console_log_interval: must be at least 1"),
        ("save_num_checkpoints_to_keep=0", "save_num_checkpoints_to_keep: "),
        ("optimizer.betas=[0.9, 1.5]", "optimizer.betas.1: "),
        ("optimizer.no_weight_decay=[embedding]", "optimizer.no_weight_decay.0: "),
        ("scheduler.t_warmup=1.5dur", "scheduler.t_warmup: must be at most 1dur"),
        ("scheduler.t_decay=0.2dur", "scheduler.t_decay: unknown key"),
        ("scheduler.name=wsd", "scheduler: must be one of"),
        ("scheduler={name: warmup_stable_decay, t_warmup: 1ba, form: 1-root}", "scheduler.form: "),
        ("scheduler={name: warmup_stable_decay, t_warmup: 1ba, t_decay: 60sec}", "scheduler.t_decay: must be in ba"),
    ],
)
def test_what_a_component_would_refuse_or_take_for_something_else_is_refused_at_once(argument, fault):
    with pytest.raises(UserError) as error:
        load_configuration(str(ROOT / "yamls" / "quickstart.yaml"), [argument], Training)
    assert fault in str(error.value) and "1 fault in" in str(error.value)


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ("scheduler.t_warmup=96ba", "scheduler.t_warmup"),
        ("scheduler.t_warmup=393216tok", "scheduler.t_warmup"),
        ("scheduler.t_warmup=1dur", "scheduler.t_warmup"),
        ("scheduler.t_max=79ba", "scheduler.t_max"),
        ("scheduler={name: constant_with_warmup, t_warmup: 80ba}", "scheduler.t_warmup"),
        ("scheduler={name: warmup_stable_decay, t_warmup: 41ba, t_decay: 0.5dur}", "scheduler.t_decay"),
        ("scheduler={name: warmup_stable_decay, t_warmup: 41ba, t_decay: 163840tok}", "scheduler.t_decay"),
        ("scheduler={name: warmup_stable_decay, t_warmup: 41ba, t_decay: 0ba}", "scheduler.t_decay"),
        ("load_path=s3://biomedlm/runs/quickstart/ep0-ba20", "load_path"),
        ("load_dataset_state=false", "load_dataset_state"),
        ("model.n_heads=3", "model.n_heads"),
        ("device_train_microbatch_size=3", "device_train_microbatch_size"),
        ("train_loader.dataset={local: cache, cache_limit: 1gb}", "train_loader.dataset.cache_limit"),
        ("save_folder=null", "autoresume"),
        ("max_duration=60sec", "max_duration"),
        ("console_log_interval=1ep", "console_log_interval"),
        ("fsdp_config.sharding_strategy=HYBRID_SHARD", "fsdp_config.data_parallel_shard_degree"),
        ("fsdp_config.data_parallel_shard_degree=2", "fsdp_config.data_parallel_shard_degree"),
        ("fsdp_config.mixed_precision=PURE", "fsdp_config.mixed_precision"),
        ("fsdp_config.activation_checkpointing_interval=2", "fsdp_config.activation_checkpointing_interval"),
        (
            "fsdp_config={activation_checkpointing: true, activation_checkpointing_interval: 99}",
            "fsdp_config.activation_checkpointing_interval",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_refused(argument, key):
    with pytest.raises(UserError, match=f": {key}: "):
        load_configuration(str(ROOT / "yamls" / "quickstart.yaml"), [argument], Training)


@pytest.mark.parametrize(("heads", "remedy"), [(3, 2), (5, 4), (200, 128)])
def test_heads_that_do_not_divide_the_width_are_refused_with_a_number_that_does(heads, remedy):
    with pytest.raises(UserError, match=f"{heads} heads do not divide d_model 128; {remedy} do"):
        load_configuration(str(ROOT / "yamls" / "quickstart.yaml"), [f"model.n_heads={heads}"], Training)


def test_epochs_are_not_compared_with_tokens():
    arguments = ["max_duration=1000000tok", "scheduler.t_warmup=1ep"]
    with pytest.raises(UserError, match=r"scheduler\.t_warmup: 1ep cannot be compared with max_duration 1000000tok"):
        load_configuration(str(ROOT / "yamls" / "quickstart.yaml"), arguments, Training)


def test_epochs_are_not_counted_over_other_data():
    arguments = ["max_duration=3ep", "scheduler.t_warmup=1ep", "load_path=/other/ep1-ba20", "load_dataset_state=false"]
    with pytest.raises(UserError) as error:
        load_configuration(str(ROOT / "yamls" / "quickstart.yaml"), arguments, Training)
    for key in ("max_duration: 3ep", "scheduler.t_warmup: 1ep"):
        assert f": {key}: with load_dataset_state=false epochs are not the checkpoint's" in str(error.value)


def test_a_wrong_s3_key_is_a_clear_error_with_exit_code_2(s3, new_run):
    run = new_run("wrong-key", save_folder=s3.location("runs"))
    result = train_py(str(run.folder / "run.yaml"), "--check", AWS_SECRET_ACCESS_KEY="wrong")
    assert result.returncode == 2
    assert "AWS_SECRET_ACCESS_KEY" in result.stderr
    assert "Traceback" not in result.stderr


def config(run, **changes) -> Training:
    return Training.model_validate({**json.loads((run.folder / "run.yaml").read_text()), **changes})


def test_a_sound_run_has_no_faults_and_its_sheet_counts_the_data(new_run):
    found = preflight(config(new_run("sound")), world_size=2, probe_writing=True)
    assert found.faults == [] and found.missing == []
    assert found.samples == 50 and found.batches == 20
    assert "50 sequences of 64" in run_sheet(config(new_run("again")), found, 2)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"global_train_batch_size": 5, "device_train_microbatch_size": 1}, "not divisible by the 2 ranks"),
        ({"device_train_microbatch_size": 4}, "does not divide the 2 sequences of each of 2 ranks; 2 does"),
        ({"max_seq_len": 128}, "max_seq_len: 128, but the shards hold ndarray:uint16:64"),
        ({"global_train_batch_size": 200}, "there are 50 sequences; take a smaller batch"),
        (
            {"model": {"name": "gpt", "d_model": 32, "n_heads": 2, "n_layers": 2, "vocab_size": 100}},
            "or more, or null for",
        ),
    ],
)
def test_what_cannot_train_is_refused_with_the_reason(new_run, changes, fault):
    found = preflight(config(new_run("faulty"), **changes), world_size=2, probe_writing=False)
    assert any(fault in text for text in found.faults), found


def test_a_copy_of_the_model_takes_a_divisor_of_the_ranks(new_run):
    copies = {"sharding_strategy": "HYBRID_SHARD", "data_parallel_shard_degree": 2}
    wanted = config(new_run("run"), global_train_batch_size=12, fsdp_config=copies)
    assert preflight(wanted, 2, False).faults == preflight(wanted, 6, False).faults == []
    (told,) = preflight(wanted, 3, False).faults
    assert "fsdp_config.data_parallel_shard_degree: 2 ranks a copy do not divide the 3 ranks" in told


def test_a_tokenizer_that_did_not_write_the_shards_is_refused(new_run):
    run = new_run("other-tokenizer")
    (run.folder / "mds" / "card.json").write_text(json.dumps({"tokenizer_sha256": "0" * 64, "vocab_size": 10}))
    found = preflight(config(run), world_size=1, probe_writing=False)
    assert any(
        "not the tokenizer that wrote the shards" in fault and "name that one" in fault for fault in found.faults
    )


@pytest.mark.parametrize(
    ("argument", "fault"),
    [
        ("train_loader.dataset.num_canonical_nodes=64", "num_canonical_nodes: 64, and an epoch has 50 sequences"),
        ("train_loader.dataset.cache_limit=3kb", "train_loader.dataset.cache_limit: 3kb is too small"),
    ],
)
def test_what_streaming_would_refuse_or_repeat_is_refused_before(new_run, argument, fault):
    found = preflight(overridden(new_run("run"), argument), 2, False)
    assert len(found.faults) == 1 and fault in found.faults[0]


def overridden(run, *arguments: str) -> Training:
    return load_configuration(str(run.folder / "run.yaml"), list(arguments), Training)


def test_the_least_cache_limit_is_the_one_that_streaming_takes(new_run):
    """One byte less is refused by both."""
    from streaming import StreamingDataset

    run = new_run("run")
    (told,) = preflight(overridden(run, "train_loader.dataset.cache_limit=1b"), 1, False).faults
    least = int(re.search(r"here (\d+) bytes", told)[1])  # type: ignore[index]
    assert preflight(overridden(run, f"train_loader.dataset.cache_limit={least}"), 1, False).faults == []
    place = {"remote": str(run.folder / "mds"), "local": str(run.folder / "cache"), "split": "train", "batch_size": 1}
    StreamingDataset(**place, cache_limit=least)
    with pytest.raises(ValueError, match=r"(?i)cache"):
        StreamingDataset(**place | {"local": str(run.folder / "other")}, cache_limit=least - 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["save_interval=21ba"], "save_interval: 21ba is longer than the run"),
        (["save_interval=2ep"], "save_interval: 2ep is longer than the run"),
        (["scheduler.t_warmup=10tok"], "scheduler.t_warmup: 10tok is less than a batch"),
        (["scheduler.t_warmup=0ba"], "scheduler.t_warmup: 0ba is less than a batch"),
        (["train_loader.dataset.predownload=1"], "predownload: 1 is less than a rank's batch of 2"),
        (["hardware={gpu: h100_80gb, count: 8}"], "hardware.count=8: the run sheet of --check is for so many"),
        (["save_folder=null", "autoresume=false"], "save_folder is not set"),
        (["loggers.wandb={project: x}"], "loggers.wandb: neither WANDB_API_KEY nor ~/.netrc has a key here"),
        (["loggers.mlflow={experiment_name: x, tracking_uri: runs/ml}"], "tracking_uri: runs/ml is a folder"),
        (["loggers.mlflow={experiment_name: x, tracking_uri: 'file:///ml'}"], "file:///ml is a folder, which MLflow 3"),
    ],
)  # fmt: skip
def test_what_would_be_told_or_go_wrong_after_the_start_is_told_before(new_run, monkeypatch, tmp_path, arguments, told):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    run = new_run("run")
    assert not any(told in warning for warning in preflight(overridden(run), 2, False).warnings)
    assert any(told in warning for warning in preflight(overridden(run, *arguments), 2, False).warnings)


def test_a_tracker_that_has_what_it_needs_is_not_warned_of(new_run, monkeypatch, tmp_path):
    run = new_run("run")
    wandb = overridden(run, "loggers.wandb={project: x}")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password key\n")
    for name, value in (("NETRC", str(tmp_path / "netrc")), ("WANDB_API_KEY", "key"), ("WANDB_MODE", "offline")):
        with monkeypatch.context() as patched:
            patched.setenv("NETRC", str(tmp_path / "none"))
            patched.setenv(name, value)
            assert not any("wandb" in warning for warning in preflight(wandb, 1, False).warnings)
    for uri in ("sqlite:///ml.db", "https://server", "databricks"):
        mlflow = overridden(run, f"loggers.mlflow={{experiment_name: x, tracking_uri: '{uri}'}}")
        assert not any("mlflow" in warning for warning in preflight(mlflow, 1, False).warnings)


def test_shards_that_are_lost_or_cut_are_told_before_training_comes_to_them(new_run):
    run = new_run("run")
    shards = sorted((run.folder / "mds" / "train").glob("*.mds"))
    shards[2].unlink()
    shards[5].write_bytes(shards[5].read_bytes()[:-1])
    (told,) = preflight(config(run), 1, False).faults
    assert f"2 of {len(shards)} shards are not there, or not whole; the first is {shards[2].name}" in told


def test_nodes_that_streaming_cannot_begin_on_are_refused_with_a_number_that_it_can(new_run):
    wanted = overridden(new_run("run"), "train_loader.dataset.num_canonical_nodes=8", "global_train_batch_size=12",
                        "device_train_microbatch_size=1")  # fmt: skip
    for nodes in (None, 1, 2, 4):
        assert preflight(wanted, nodes or 1, False, nodes).faults == []
    (told,) = preflight(wanted, 3, False, nodes=3).faults
    assert "num_canonical_nodes: 8 and the 3 nodes do not divide one another; 9 would do" in told


def test_the_check_guesses_the_nodes_and_warns_of_those_that_streaming_cannot_begin_on(new_run):
    wanted = overridden(new_run("run"), "train_loader.dataset.num_canonical_nodes=8", "global_train_batch_size=48",
                        "device_train_microbatch_size=1")  # fmt: skip
    assert not any("canonical" in warning for warning in preflight(wanted, 16, True).warnings)
    found = preflight(wanted, 24, True)
    (told,) = [warning for warning in found.warnings if "canonical" in warning]
    assert "8 and the 3 nodes do not divide one another; 9 would do" in told
    assert "the number of nodes is a guess, 8 GPUs on each" in told and found.faults == []
    assert preflight(wanted, 24, True, nodes=3).faults and preflight(wanted, 24, True, nodes=4).faults == []


def test_a_checkpoint_folder_that_cannot_be_written_to_is_named_with_its_key(new_run):
    run = new_run("run")
    (run.folder / "file").write_text("")
    (told,) = preflight(config(run, save_folder=str(run.folder / "file" / "checkpoints")), 1, True).faults
    assert told.startswith("save_folder: ")


def test_questions_and_trackers_that_are_not_there_are_told_before_training(new_run, tmp_path, monkeypatch):
    scores = {"tasks": ["medqa", "medmcqa"], "data": str(tmp_path / "qa"), "interval": "5ba"}
    wanted = config(new_run("asks"), callbacks={"score_checkpoints": scores}, loggers={"wandb": {"project": "x"}})
    monkeypatch.setattr("recipes.preflight.find_spec", lambda name: None)
    missing = preflight(wanted, 1, False).missing
    assert [text.split(":")[0] for text in missing] == ["callbacks.score_checkpoints.data"] * 2 + ["loggers.wandb"]

    write_sample_questions(str(tmp_path / "qa"), n=5, seed=1)
    assert len(preflight(wanted, 1, False).missing) == 1
    (tmp_path / "qa" / "medmcqa" / "dev.json").write_text("{}")
    assert any("holds no question for medmcqa" in fault for fault in preflight(wanted, 1, False).faults)


def test_a_folder_with_checkpoints_is_not_trained_into_unless_resuming(new_run):
    run = new_run("used")
    (run.checkpoints / "ep0-ba5").mkdir(parents=True)
    (run.checkpoints / "ep0-ba5" / "__0_0.distcp").write_bytes(b"half")
    assert any("autoresume" in fault for fault in preflight(config(run, autoresume=False), 1, False).faults)
    found = preflight(config(run), 1, False)
    assert found.faults == [] and found.resume_from is None
    assert any("has no manifest" in warning for warning in found.warnings)


def test_a_run_for_gpus_says_so_where_there_is_none(monkeypatch):
    from recipes.pretrain import _require_gpu_where_needed

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    biomedlm = load_configuration(str(ROOT / "yamls" / "biomedlm.yaml"), [], Training)
    with pytest.raises(UserError, match=r"for the CPU: precision=fp32 model\.init_device=cpu"):
        _require_gpu_where_needed(biomedlm)
