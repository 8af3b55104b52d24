"""Tasks in processes: failures come back as they are, and nothing runs on behind them."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.errors import UserError
from data_prep.executors.local import LocalProcesses


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalProcesses]:
    executor = LocalProcesses(2)
    yield executor
    executor.close()


def double(number: int) -> tuple[int, int]:
    return 2 * number, os.getpid()


def write_late_or_fail(path: Path) -> None:
    if path.name == "fails":
        raise UserError("this one cannot be done")
    time.sleep(0.3)
    path.touch()


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_every_task_is_done_once_in_other_processes(processes: LocalProcesses) -> None:
    results = dict(processes.map(double, range(50)))
    assert {index: value for index, (value, _) in results.items()} == {number: 2 * number for number in range(50)}
    assert os.getpid() not in {pid for _, pid in results.values()}


def test_one_worker_is_this_process(processes: LocalProcesses) -> None:
    assert [pid for _, (_, pid) in processes.map(double, range(3), at_most=1)] == [os.getpid()] * 3


def test_a_failure_is_raised_when_no_other_task_runs_any_more(processes: LocalProcesses, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be done"):
        list(processes.map(write_late_or_fail, [tmp_path / "fails", *(tmp_path / f"{number}" for number in range(20))]))
    written = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == written < 20


def test_a_killed_worker_is_told() -> None:
    executor = LocalProcesses(2)
    with pytest.raises(UserError, match="killed from outside"):
        list(executor.map(die, range(4)))
    executor.close()
