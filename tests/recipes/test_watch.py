"""Checkpoints are scored as they appear, each once, whatever happens to some of them."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_checkpoints import write_checkpoint

from base import storage
from base.configuration import load_configuration
from base.errors import StoreTrouble, UserError
from base.local_s3 import LocalS3
from data_prep.tokenizer.training import train, write_tokenizer
from eval.sample_questions import write_sample_questions
from model.checkpoint import MANIFEST, delete_checkpoint
from recipes import evaluate_model
from recipes import watch as watching
from recipes.evaluation import Evaluation, find_inputs
from recipes.watch import NOT_SCORED, TABLE, watch

ROOT = Path(__file__).parents[2]
YAML = "yamls/eval/qa.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions, and checkpoints of one model at 1, 2 and 3 batches, as a run writes them."""
    folder = tmp_path_factory.mktemp("watch")
    write_sample_questions(str(folder / "qa"), n=20, seed=3)
    for batch in (1, 2, 3):
        write_checkpoint(folder / "run" / f"ep0-ba{batch}", seed=batch, batch=batch)
    return folder


def settings(made: Path, folder: object, out: object, **more: object) -> list[str]:
    given = {"watch": folder, "data": made / "qa", "out": out, "limit": 6, "watch_every_seconds": 0.1}
    given |= {"watch_idle_seconds": 0.2, **more}
    return [f"{key}={value}" for key, value in given.items()]


def watched(made: Path, folder: object, out: object, **more: object) -> None:
    config = load_configuration(str(ROOT / YAML), settings(made, folder, out, **more), Evaluation)
    watch(config, find_inputs(config)[1])


def scored(out: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in out.glob("*-ep*.json")}


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / TABLE.format("run")).read_text().splitlines()))


def not_scored(out: Path) -> dict[str, str]:
    lines = (out / NOT_SCORED.format("run")).read_text().splitlines()
    return {one["checkpoint"]: one["reason"] for one in map(json.loads, lines)}


def test_each_whole_checkpoint_is_scored_once_and_a_later_watch_goes_on(made: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(made / "run" / "ep0-ba1", run / "ep0-ba1")
    shutil.copytree(made / "run" / "ep0-ba2", run / "ep0-ba2", ignore=shutil.ignore_patterns(MANIFEST))
    watched(made, run, out)
    assert set(scored(out)) == {"run-ep0-ba1"}  # the second is not whole yet
    first = (out / "run-ep0-ba1.json").stat().st_mtime_ns
    shutil.copy(made / "run" / "ep0-ba2" / MANIFEST, run / "ep0-ba2")
    watched(made, run, out)
    assert set(scored(out)) == {"run-ep0-ba1", "run-ep0-ba2"}
    assert (out / "run-ep0-ba1.json").stat().st_mtime_ns == first
    rows = table(out)
    assert [(row["tokens"], row["task"]) for row in rows] == [
        (tokens, task) for tokens in ("100", "200") for task in ("medqa", "medmcqa")
    ]
    for row in rows:
        score = scored(out)[f"run-ep0-ba{row['batch']}"]["scores"][row["task"]]
        assert float(row["score"]) == score[score["metric"]] and row["metric"] == score["metric"]


def test_questions_are_tokenized_once_for_all_checkpoints_and_results_are_read_once(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, read = [], []
    prepare, read_bytes = evaluate_model.prepare, storage.read_bytes

    def counted(questions: Any, *arguments: Any) -> Any:
        prepared.append(questions.protocol.name)
        return prepare(questions, *arguments)

    def counted_read(location: str, *arguments: Any) -> bytes:
        read.append(Path(location).name)
        return read_bytes(location, *arguments)

    monkeypatch.setattr(evaluate_model, "prepare", counted)
    monkeypatch.setattr(storage, "read_bytes", counted_read)
    watched(made, made / "run", tmp_path, watch_idle_seconds=2)
    assert prepared == ["medqa", "medmcqa"]
    assert all(read.count(f"{name}.json") == 1 for name in scored(tmp_path))


def test_a_checkpoint_that_vanishes_or_is_damaged_is_named_and_the_others_are_scored(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(made / "run", run)
    damaged = next((run / "ep0-ba2").glob("*.distcp"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    load = watching.load_subject

    def pruned_meanwhile(model: Any, *others: Any) -> Any:
        if model.location.endswith("ep0-ba1"):
            delete_checkpoint(model.location)
        return load(model, *others)

    monkeypatch.setattr(watching, "load_subject", pruned_meanwhile)
    watched(made, run, out)
    assert set(scored(out)) == {"run-ep0-ba3"}
    noted = not_scored(out)
    assert set(noted) == {"run-ep0-ba1", "run-ep0-ba2"}
    assert "no manifest" in noted["run-ep0-ba1"] and "sha256" in noted["run-ep0-ba2"]
    watched(made, run, out)  # and it is not tried again
    assert not_scored(out) == noted


def test_the_watch_waits_while_the_store_does_not_answer(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, answers = watching.list_checkpoints, iter([False, True, False])

    def unsteady(folder: str) -> Any:
        if not next(answers, True):
            raise StoreTrouble("the store does not answer")
        return listed(folder)

    monkeypatch.setattr(watching, "list_checkpoints", unsteady)
    watched(made, made / "run", tmp_path, watch_idle_seconds=2)
    assert len(scored(tmp_path)) == 3


def test_a_full_disk_here_is_no_fault_of_the_checkpoints(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download, full = storage.download, iter([True])

    def once_full(location: str, path: Any) -> None:
        if next(full, False):
            raise storage.disk_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        download(location, path)

    monkeypatch.setattr(storage, "download", once_full)
    watched(made, made / "run", tmp_path, watch_idle_seconds=2)
    assert len(scored(tmp_path)) == 3 and not (tmp_path / NOT_SCORED).exists()


def test_results_of_other_questions_are_not_taken_for_ones_own(made: Path, tmp_path: Path) -> None:
    watched(made, made / "run", tmp_path)
    with pytest.raises(UserError, match=r"run-ep0-ba1\.json has been asked other questions"):
        watched(made, made / "run", tmp_path, limit=7)
    (tmp_path / "run-ep0-ba2.json").write_text("{")
    with pytest.raises(UserError, match=r"run-ep0-ba2\.json: not JSON"):
        watched(made, made / "run", tmp_path)


def test_results_of_other_models_may_lie_beside_those_of_the_watch(made: Path, tmp_path: Path) -> None:
    watched(made, made / "run", tmp_path)
    (tmp_path / "gpt-neo.json").write_text('{"name": "gpt-neo", "scores": {}}')
    watched(made, made / "run", tmp_path)
    assert {row["batch"] for row in table(tmp_path)} == {"1", "2", "3"}


def test_a_watch_that_ended_before_its_table_was_written_writes_it_when_started_again(
    made: Path, tmp_path: Path
) -> None:
    watched(made, made / "run", tmp_path)
    whole = (tmp_path / TABLE.format("run")).read_text()
    (tmp_path / TABLE.format("run")).write_text(whole.splitlines(keepends=True)[0])
    watched(made, made / "run", tmp_path)
    assert (tmp_path / TABLE.format("run")).read_text() == whole


def test_a_watch_asks_with_the_tokenizer_that_it_was_given(made: Path, tmp_path: Path) -> None:
    other = train(iter([["which one is the answer to a question"] * 5]), 270, 2)
    (tmp_path / "tokenizer").mkdir()
    write_tokenizer(other, tmp_path / "tokenizer", 256)
    watched(made, made / "run", tmp_path / "own")
    watched(made, made / "run", tmp_path / "other", tokenizer=tmp_path / "tokenizer")
    own, given = (scored(tmp_path / which)["run-ep0-ba1"]["scores"]["medqa"] for which in ("own", "other"))
    assert own["question_hash"] == given["question_hash"] and own["prompt_hash"] != given["prompt_hash"]


def test_a_diverged_checkpoint_is_named_and_the_others_are_measured_on_texts(made: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(made / "run", run)
    write_checkpoint(run / "ep0-ba2", seed=2, batch=2, scale=float("nan"))
    (tmp_path / "some.txt").write_text("a dose was given to a patient")
    watched(made, run, out, texts=f"{{some: {tmp_path / 'some.txt'}}}")
    assert set(scored(out)) == {"run-ep0-ba1", "run-ep0-ba3"}
    assert "it is broken" in not_scored(out)["run-ep0-ba2"]


def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_watch_on_two_ranks_scores_from_a_bucket_what_comes_while_it_waits(
    made: Path, tmp_path: Path, s3: LocalS3
) -> None:
    place, out = "s3://test/watched/run", tmp_path / "out"

    def send(name: str) -> None:
        files = sorted((made / "run" / name).iterdir(), key=lambda path: path.name == MANIFEST)
        for path in files:
            storage.upload(path, f"{place}/{name}/{path.name}")

    send("ep0-ba1")
    launcher = [sys.executable, "-m", "composer.cli.launcher", "-n", "2", "evaluate.py", YAML]
    process = subprocess.Popen(
        [*launcher, *settings(made, place, out, watch_idle_seconds=15)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: set(scored(out)) == {"run-ep0-ba1"})
    send("ep0-ba3")
    until(lambda: set(scored(out)) == {"run-ep0-ba1", "run-ep0-ba3"})
    _, told = process.communicate(timeout=90)
    assert process.returncode == 0, told
    watched(made, made / "run", tmp_path / "one")
    for name, record in scored(out).items():
        assert record["scores"] == scored(tmp_path / "one")[name]["scores"]  # as one rank has it


@pytest.mark.slow
def test_ranks_wait_together_when_the_results_cannot_be_written_for_now(made: Path, tmp_path: Path) -> None:
    launcher = [
        sys.executable,
        "-m",
        "composer.cli.launcher",
        "-n",
        "2",
        str(Path(__file__).parent / "unsteady_store.py"),
    ]
    done = subprocess.run(
        [*launcher, YAML, *settings(made, made / "run", tmp_path, watch_idle_seconds=3)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "waiting: the store does not answer" in done.stderr
    assert len(scored(tmp_path)) == 3
