"""A model gets the same scores as a checkpoint, as its export, by transformers, while it trains and afterwards."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from streaming import MDSWriter
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from base.configuration import load_configuration
from base.errors import UserError
from eval.sample_questions import write_sample_questions
from model.export import export_huggingface
from recipes.evaluate_model import evaluate
from recipes.evaluation import Evaluation, find_inputs
from recipes.subject import _transformers

ROOT = Path(__file__).parents[2]
LENGTH, LIMIT = 128, 8
YAML = "yamls/eval/qa.yaml"


def launch(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, *(["-m", "composer.cli.launcher"] if command[0] == "-n" else [])]
    return subprocess.run(
        [*program, *command], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, text=True,
        capture_output=True, timeout=180, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions of our own, a tokenizer made from them, and packed sequences of random ids."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_sample_questions(str(folder / "qa"), n=20, seed=3)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=599, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train([str(path) for path in (folder / "qa").rglob("*.json*")], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    random = np.random.default_rng(1)
    with MDSWriter(out=str(folder / "mds" / "train"), columns={"tokens": f"ndarray:uint16:{LENGTH}"}) as writer:
        for _ in range(32):
            writer.write({"tokens": random.integers(0, 600, LENGTH, dtype=np.uint16)})
    return folder


def train(folder: Path, name: str, *settings: str) -> None:
    """A real, tiny training that has scored its last checkpoint."""
    done = launch(
        "train.py", "yamls/quickstart.yaml", f"run_name={name}", f"max_seq_len={LENGTH}", "model.d_model=32",
        "model.initializer_range=0.2", "max_duration=3ba", "scheduler.t_warmup=1ba", f"variables.folder={folder}",
        f"variables.qa={folder}/qa", f"tokenizer.name={folder}/tokenizer", f"train_loader.dataset.remote={folder}/mds",
        f"save_folder={folder}/runs/{name}", "save_interval=3ba", "eval_loader=null",
        f"callbacks.score_checkpoints.limit={LIMIT}", *settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    """The folder after such a training, in fp32."""
    train(folder, "tiny")
    return folder


def arguments(model: Path, folder: Path, out: Path, **more: str) -> list[str]:
    settings = {"model": model, "data": folder / "qa", "limit": LIMIT, "device_eval_batch_size": 8, "out": out, **more}
    return [YAML, "name=it", *(f"{key}={value}" for key, value in settings.items())]


def results(out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The record and the items."""
    items = [json.loads(line) for line in (out / "it.items.jsonl").read_text().splitlines()]
    return json.loads((out / "it.json").read_text()), items


def evaluated(model: Path, folder: Path, out: Path, **more: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results of an evaluation in this process."""
    yaml, *overrides = arguments(model, folder, out, **more)
    config = load_configuration(str(ROOT / yaml), overrides, Evaluation)
    found, asked = find_inputs(config)
    assert found is not None
    evaluate(config, found, asked)
    return results(out)


@pytest.fixture(scope="module")
def checkpoint(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The results of the trained checkpoint, on one rank."""
    return evaluated(trained / "runs" / "tiny", trained, tmp_path_factory.mktemp("results"))


def likelihoods(items: list[dict[str, Any]]) -> torch.Tensor:
    return torch.tensor([item["log_likelihoods"] for item in items])


@pytest.mark.slow
def test_a_checkpoint_gets_the_scores_that_it_got_while_it_trained(
    trained: Path, checkpoint: Any, tmp_path: Path
) -> None:
    record, items = checkpoint
    in_run = json.loads((trained / "tiny" / "results" / "ep0-ba3.json").read_text())
    assert record["scores"] == in_run["scores"]
    assert (record["batch"], record["tokens"]) == (in_run["batch"], in_run["tokens"])
    assert record["model"].endswith("ep0-ba3")  # the newest of the folder
    lines = (trained / "tiny" / "results" / "ep0-ba3.items.jsonl").read_text().splitlines()
    assert items == [json.loads(line) for line in lines]  # bit for bit
    _, in_half = evaluated(trained / "runs" / "tiny", trained, tmp_path, precision="amp_bf16")
    assert in_half != items
    torch.testing.assert_close(likelihoods(in_half), likelihoods(items), rtol=0.02, atol=0.5)


@pytest.mark.slow
def test_two_ranks_score_each_question_once_and_as_one_rank_does(
    trained: Path, checkpoint: Any, tmp_path: Path
) -> None:
    done = launch("-n", "2", "evaluate.py", *arguments(trained / "runs" / "tiny", trained, tmp_path))
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[:3]] == ["task", "medqa", "medmcqa"]
    _, items = results(tmp_path)
    assert items == checkpoint[1]
    assert len({(item["task"], item["id"]) for item in items}) == len(items) == 2 * LIMIT


@pytest.mark.slow
def test_the_export_gives_the_likelihoods_of_the_checkpoint_also_by_transformers(
    trained: Path, checkpoint: Any, tmp_path: Path
) -> None:
    export_huggingface(str(trained / "runs" / "tiny"), tmp_path / "exported")
    record, items = evaluated(tmp_path / "exported", trained, tmp_path / "a")
    assert record["computed_by"] == "model.gpt"
    torch.testing.assert_close(likelihoods(items), likelihoods(checkpoint[1]))

    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    config["activation_function"] = "gelu_fast"  # the same function, under a name that only transformers knows
    (tmp_path / "exported" / "config.json").write_text(json.dumps(config))
    record, items = evaluated(tmp_path / "exported", trained, tmp_path / "b")
    assert "eager attention, for scale_attn_by_inverse_layer_idx" in record["computed_by"]
    torch.testing.assert_close(likelihoods(items), likelihoods(checkpoint[1]), atol=1e-3, rtol=1e-4)


def test_all_faults_are_told_at_once_without_torch(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was imported')")
    hidden = {"PYTHONPATH": str(tmp_path)}
    helped = launch("evaluate.py", "--help", **hidden)
    assert helped.returncode == 0 and "key=value" in helped.stdout
    done = launch("evaluate.py", YAML, "limt=4", "tasks=[medqa, medcqa]", **hidden)
    assert done.returncode == 2
    for fault in ("3 faults", "model=CHECKPOINT_OR_FOLDER", "did you mean limit?", "no task medcqa; did you mean med"):
        assert fault in done.stderr
    for neither_or_both in ([], ["model=a", "watch=b"]):
        done = launch("evaluate.py", YAML, *neither_or_both, **hidden)
        assert done.returncode == 2 and "or watch=FOLDER_OF_CHECKPOINTS" in done.stderr
    done = launch("evaluate.py", YAML, "model=/nowhere", "data=/nowhere", "tokenizer=/nowhere", "out=/proc/x", **hidden)
    assert done.returncode == 2
    for fault in ("5 faults", "model: /nowhere", "data: /nowhere", "tokenizer: /nowhere", "out: /proc/x"):
        assert fault in done.stderr


@pytest.mark.slow
def test_a_fault_ends_two_ranks_with_its_own_exit_code_and_one_message() -> None:
    done = launch("-n", "2", "evaluate.py", YAML, "model=/nowhere", "data=/nowhere")
    assert done.returncode == 2
    assert done.stderr.count("faults before scoring") == 1


def test_a_folder_with_other_weights_is_refused_instead_of_scored_at_random(tmp_path: Path) -> None:
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    shape = GPTNeoConfig(vocab_size=64, hidden_size=8, num_layers=1, num_heads=2, attention_types=[[["global"], 1]])
    GPTNeoForCausalLM(shape).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"num_layers": 2, "attention_types": [[["global"], 2]], "attention_layers": ["global", "global"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="weights are not those of GPTNeoForCausalLM"):
        _transformers(tmp_path, torch.device("cpu"), "not a GPT-2")
