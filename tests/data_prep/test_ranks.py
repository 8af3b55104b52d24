"""Ranks that share a work folder: they come late, die and are started again, and the result is that of one process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import far_tasks
import pytest
from far_tasks import STALE, double, double_slowly, fail_strangely, write_late_or_fail
from made import BOTH, SMALL, YAML, content, prepare

from base.errors import UserError
from data_prep.executors.attempt import TaskFailed
from data_prep.executors.places import MARK, Places
from data_prep.executors.shared_folder import SharedFolder
from data_prep.pipeline import local_inputs
from data_prep.schema import DataConfiguration

ROOT = Path(__file__).parents[2]
Rank = "subprocess.Popen[str]"


@contextmanager
def rank_0(work: Path) -> Iterator[SharedFolder]:
    executor = SharedFolder(work / "ranks", 1, STALE, "settings", None, Places.of_new_run([work], []))
    try:
        yield executor
    finally:
        executor.close(well=True)


@pytest.fixture
def ranks() -> Iterator[Callable[..., Any]]:
    """Starts other ranks; ends those that are still there after the test."""
    running: list[subprocess.Popen[str]] = []

    def start(work: Path, rank: int, settings: str = "settings") -> "subprocess.Popen[str]":
        command = [sys.executable, far_tasks.__file__, str(work / "ranks"), str(rank), settings]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def come(work: Path) -> list[Path]:
    return list((work / "ranks").glob("*/from-*.json"))


def test_rank_0_alone_does_everything(tmp_path: Path) -> None:
    with rank_0(tmp_path) as executor:
        results = dict(executor.map(double, range(30)))
    assert [results[index][0] for index in range(30)] == [2 * number for number in range(30)]
    assert not (tmp_path / MARK).exists()


def test_a_rank_helps_and_ends_when_rank_0_has_ended(tmp_path: Path, ranks: Callable[..., Any]) -> None:
    other = ranks(tmp_path, 1)
    with rank_0(tmp_path) as executor:
        until(lambda: come(tmp_path))
        results = dict(executor.map(double_slowly, range(30)))
        assert [results[index][0] for index in range(30)] == [2 * number for number in range(30)]
        assert len({pid for _, pid in results.values()}) == 2
        assert not list((tmp_path / "ranks").glob("*/task-*")) and not list((tmp_path / "ranks").glob("*/result-*"))
    assert "run has ended well" in other.communicate(timeout=20)[1] and other.returncode == 0


def test_nobody_else_can_reach_what_ranks_unpickle(tmp_path: Path) -> None:
    (tmp_path / "ranks").mkdir(mode=0o777)
    with rank_0(tmp_path):
        assert (tmp_path / "ranks").stat().st_mode & 0o777 == 0o700


def test_the_tasks_of_a_killed_rank_are_done_by_others(tmp_path: Path, ranks: Callable[..., Any]) -> None:
    other = ranks(tmp_path, 1)
    with rank_0(tmp_path) as executor:
        until(lambda: come(tmp_path))
        results = {}
        for index, (value, _) in executor.map(double_slowly, range(30)):
            results[index] = value
            if len(results) == 6:
                other.send_signal(signal.SIGKILL)
        assert other.wait() == -signal.SIGKILL
    assert results == {index: 2 * index for index in range(30)}


def test_a_rank_that_stood_still_drops_its_tasks_and_comes_again(tmp_path: Path, ranks: Callable[..., Any]) -> None:
    other = ranks(tmp_path, 1)
    with rank_0(tmp_path) as executor:
        until(lambda: come(tmp_path))
        other.send_signal(signal.SIGSTOP)
        assert len(dict(executor.map(double_slowly, range(10)))) == 10
        other.send_signal(signal.SIGCONT)
        until(lambda: len(come(tmp_path)) == 2)
        assert len({pid for _, (_, pid) in executor.map(double_slowly, range(30))}) == 2


def test_a_failure_is_raised_when_no_rank_is_at_a_task(tmp_path: Path, ranks: Callable[..., Any]) -> None:
    ranks(tmp_path, 1)
    out = tmp_path / "files"
    out.mkdir()
    with rank_0(tmp_path) as executor:
        until(lambda: come(tmp_path))
        with pytest.raises(UserError, match="cannot be done"):
            list(executor.map(write_late_or_fail, [*(out / f"{number}" for number in range(5)), out / "fails"]))
        written = len(list(out.iterdir()))
        time.sleep(0.7)
        assert len(list(out.iterdir())) == written
        with pytest.raises(TaskFailed, match="left right"):
            list(executor.map(fail_strangely, range(5)))
        assert len(dict(executor.map(double, range(5)))) == 5


def test_a_rank_with_other_settings_is_refused(tmp_path: Path, ranks: Callable[..., Any]) -> None:
    other = ranks(tmp_path, 1, "other settings")
    with rank_0(tmp_path):
        assert "not those of rank 0" in other.communicate(timeout=20)[1] and other.returncode == 2


def test_a_rank_that_does_not_see_the_folder_says_so(tmp_path: Path, ranks: Callable[..., Any]) -> None:
    other = ranks(tmp_path, 1)
    elsewhere = Places.of_new_run([tmp_path], [])
    executor = SharedFolder(tmp_path / "ranks", 1, STALE, "settings", None, elsewhere)
    (tmp_path / MARK).unlink()
    message = other.communicate(timeout=20)[1]
    assert other.returncode == 2 and str(tmp_path) in message and os.uname().nodename in message
    executor.close(well=True)


def launch(out: Path, rank: int, *arguments: str) -> "subprocess.Popen[str]":
    command = [
        sys.executable, "-m", "data_prep", YAML, "pubmed=sample", f"out={out}", *SMALL, *BOTH, "sample.files=12",
        f"executor.rank={rank}", "executor.world=3", "executor.stale_seconds=2", *arguments,
    ]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def read_until(run: "subprocess.Popen[str]", start: str) -> None:
    assert run.stderr is not None
    assert any(line.startswith(start) for line in run.stderr)


@pytest.mark.slow
def test_killed_ranks_leave_the_bytes_of_one_process(tmp_path: Path) -> None:
    prepare("sample", tmp_path / "one", *BOTH, "sample.files=12")
    out = tmp_path / "ranks"
    first, second, third = (launch(out, rank) for rank in range(3))
    try:
        read_until(second, "rank 1: serves")
        read_until(first, "select …")
        second.send_signal(signal.SIGKILL)
        read_until(first, "tokenizer …")
        first.send_signal(signal.SIGKILL)
        first.wait()
        first = launch(out, 0)
        messages = first.communicate(timeout=120)[1]
        assert first.returncode == 0 and "parse: done before" in messages, messages
        messages = third.communicate(timeout=30)[1]
        assert third.returncode == 0 and messages.count("serves with") == 2, messages
        assert content(out) == content(tmp_path / "one")
    finally:
        for process in (first, second, third):
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_the_other_ranks_end_with_1_when_rank_0_has_failed(tmp_path: Path) -> None:
    first, second = (launch(tmp_path, rank, "select.quality.min_words=9999") for rank in range(2))
    assert "no document is left" in first.communicate(timeout=60)[1] and first.returncode == 2
    assert "error of rank 0" in second.communicate(timeout=60)[1] and second.returncode == 1


def test_all_local_input_of_tasks_is_looked_for_on_every_machine() -> None:
    given = {"pubmed": "/data/pubmed", "pmc": "/data/pmc/*.tar.gz", "out": "out", "tokenizer": {"terms": "/data/terms"}}
    places = local_inputs(DataConfiguration.model_validate(given))
    assert places == [Path("/data/pubmed"), Path("/data/pmc"), Path("/data/terms")]
