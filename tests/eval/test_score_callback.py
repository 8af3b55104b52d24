import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from asked import questions_of, scorer_of
from composer.callbacks import CheckpointSaver
from composer.loggers import InMemoryLogger
from small_run import LENGTH, SmallModel, train

from base.errors import UserError
from eval.all_ranks import score_on_all_ranks
from eval.callback import ScoreCheckpoints, _training_undisturbed
from eval.prompts import FastEncoder, load_tokenizer, prepare

ROOT = Path(__file__).parents[2]


@pytest.fixture
def arguments(sample_data: Path, tokenizer_folder: Path) -> dict[str, Any]:
    return {
        "tasks": ["medqa", "medmcqa"],
        "data": str(sample_data),
        "tokenizer": str(tokenizer_folder),
        "interval": "2ba",
        "limit": 6,
        "device_eval_batch_size": 8,
        "max_seq_len": LENGTH,
        "max_share_of_time": 1.0,
    }


def logged(logger: InMemoryLogger, name: str) -> dict[int, float]:
    return {stamp.batch.value: value for stamp, value in logger.data.get(name, [])}


def test_training_with_and_without_scoring_is_identical(arguments: dict[str, Any]) -> None:
    without, losses_without = train(None)
    with_scores, losses_with = train(ScoreCheckpoints(**arguments))
    assert losses_with.seen == losses_without.seen  # losses, random draws and modes, bit for bit
    assert len({loss for loss, *_ in losses_with.seen}) == 6
    expected = without.state.model.state_dict()
    for name, value in with_scores.state.model.state_dict().items():
        assert torch.equal(value, expected[name])
    assert with_scores.state.model.scored > 0


def test_scores_come_at_the_interval_and_once_at_the_end(arguments: dict[str, Any], tmp_path: Path) -> None:
    logger = InMemoryLogger()
    scoring = ScoreCheckpoints(**arguments, results_folder=str(tmp_path))
    train(scoring, batches=5, loggers=[logger])
    assert list(logged(logger, "eval/medqa/acc")) == [2, 4, 5]
    assert len(logger.data["eval/medmcqa/acc"]) == 3
    assert {path.name for path in tmp_path.iterdir()} == {
        f"ep0-ba{batch}.{kind}" for batch in (2, 4, 5) for kind in ("json", "items.jsonl")
    }
    record = json.loads((tmp_path / "ep0-ba5.json").read_text())
    for name, score in scoring.latest.items():
        found = {key: logged(logger, f"eval/{name}/{key}")[5] for key in ("acc", "acc_norm", "n", "majority")}
        assert found == {"acc": score.acc, "acc_norm": score.acc_norm, "n": 6, "majority": score.majority}
        assert (logged(logger, f"eval/{name}/ci_low")[5], logged(logger, f"eval/{name}/ci_high")[5]) == score.ci95
        assert record["scores"][name]["acc"] == score.acc
    assert record["batch"] == 5
    assert 0 < logged(logger, "eval/share_of_time")[5] < 1
    assert logged(logger, "eval/seconds")[5] > 0


def test_the_end_is_not_scored_twice(arguments: dict[str, Any]) -> None:
    logger = InMemoryLogger()
    train(ScoreCheckpoints(**arguments), batches=4, loggers=[logger])
    assert [stamp.batch.value for stamp, _ in logger.data["eval/medqa/acc"]] == [2, 4]


def test_scoring_that_would_take_too_much_of_the_time_is_left_out_but_for_the_first_and_the_end(
    arguments: dict[str, Any],
) -> None:
    logger = InMemoryLogger()
    train(ScoreCheckpoints(**{**arguments, "interval": "1ba", "max_share_of_time": 1e-6}), batches=6, loggers=[logger])
    assert list(logged(logger, "eval/medqa/acc")) == [1, 6]
    assert max(value for _, value in logger.data["eval/left_out"]) == 5


def test_intervals_in_tokens_and_epochs(arguments: dict[str, Any]) -> None:
    for interval, expected in (("130tok", [3, 5, 6]), ("1ep", [6])):
        logger = InMemoryLogger()
        train(ScoreCheckpoints(**{**arguments, "interval": interval}), batches=6, loggers=[logger])
        assert list(logged(logger, "eval/medqa/acc")) == expected


def test_the_scores_are_those_of_the_same_weights_outside(arguments: dict[str, Any]) -> None:
    scoring = ScoreCheckpoints(**arguments)
    trainer, _ = train(scoring)
    scorer = scorer_of(trainer.state.model.gpt.eval())
    for name, score in scoring.latest.items():
        questions = questions_of(name, arguments["data"], limit=6)
        prepared = prepare(questions, FastEncoder(load_tokenizer(arguments["tokenizer"])), LENGTH)
        assert score_on_all_ranks(prepared, scorer, batch_size=8)[0] == score


def test_scoring_leaves_the_random_state_alone() -> None:
    model = SmallModel().train()
    model.frozen.eval()
    before = [random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()]
    with pytest.raises(RuntimeError, match="lost"), _training_undisturbed(model):
        assert not model.training
        random.random(), np.random.rand(), torch.rand(3)
        raise RuntimeError("lost")
    assert [random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()] == before
    assert (model.training, model.gpt.training, model.frozen.training) == (True, True, False)


def test_the_trainers_own_checkpoints_are_still_written(arguments: dict[str, Any], tmp_path: Path) -> None:
    scoring = ScoreCheckpoints(**arguments)
    train(scoring, save_folder=str(tmp_path), save_interval="2ba", save_latest_filename=None, batches=4)
    assert not isinstance(scoring, CheckpointSaver)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".pt") == [
        "ep0-ba2-rank0.pt",
        "ep0-ba4-rank0.pt",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["medqa", "medcqa"]}, "there is no task medcqa; did you mean med"),
        ({"tasks": []}, "tasks: names none"),
        ({"interval": "twice"}, "interval: 'twice' is no interval"),
        ({"interval": "0ba"}, "must be at least 1"),
        ({"interval": "0.5dur"}, "in one of ba, tok, sp, ep"),
        ({"interval": "1.5ba"}, "is no interval"),
        ({"tokenizer": "/nowhere"}, "no such file"),
        ({"data": "/nowhere"}, "no such folder"),
        ({"limit": 0}, "at least 1 question"),
        ({"device_eval_batch_size": 0}, "at least 1 question"),
    ],
)
def test_faults_are_told_at_construction(arguments: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ScoreCheckpoints(**{**arguments, **change})


@pytest.mark.slow
def test_a_sharded_run_on_two_ranks_is_the_same_with_scoring(
    sample_data: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    script = str(Path(__file__).with_name("small_run.py"))
    subprocess.run(
        [sys.executable, "-m", "composer.cli.launcher", "-n", "2", script, sample_data, tokenizer_folder, tmp_path],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    runs = {which: [torch.load(tmp_path / f"{which}.{rank}.pt") for rank in (0, 1)] for which in ("with", "without")}
    for rank in (0, 1):
        assert runs["with"][rank]["losses"] == runs["without"][rank]["losses"]
        assert runs["with"][rank]["sharded"] and runs["without"][rank]["sharded"]
        for name, value in runs["without"][rank]["weights"].items():
            assert torch.equal(runs["with"][rank]["weights"][name], value)
    assert runs["with"][0]["calls"] == runs["with"][1]["calls"] > 0
    items = (tmp_path / "results" / "ep0-ba6.items.jsonl").read_text().splitlines()
    assert len({(json.loads(line)["task"], json.loads(line)["id"]) for line in items}) == len(items) == 14
    assert any(json.loads(line)["shots_left_out"] < 2 for line in items if "shot" in json.loads(line)["task"])
