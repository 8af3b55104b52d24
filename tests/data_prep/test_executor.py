"""Tasks in processes: failures come back as they are, and nothing runs on behind them."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from far_tasks import die, double, fail_strangely, write_late_or_fail

from base.errors import UserError
from data_prep.executors.attempt import TaskFailed
from data_prep.executors.local import LocalProcesses


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalProcesses]:
    executor = LocalProcesses(2)
    yield executor
    executor.close()


def open_what_is_not_there(number: int) -> None:
    Path(f"/nowhere/{number}").read_bytes()


def threads_at_most(_: int) -> tuple[str | None, str | None, int, int]:
    """What tokenizers, rensa and pyarrow are told, and by how many threads rensa's work makes the process grow."""
    import numpy as np
    import pyarrow as pa
    from rensa import RMinHash

    before = len(os.listdir("/proc/self/task"))
    offsets = np.arange(0, 100_001, 10, dtype=np.uint64)
    RMinHash.digest_matrix_from_flat_token_hashes(np.arange(100_000, dtype=np.uint64), offsets, 112, 1)
    threads = len(os.listdir("/proc/self/task")) - before
    told = [os.environ.get(name) for name in ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS")]
    return (*told, pa.cpu_count(), threads)


def test_every_task_is_done_once_in_other_processes(processes: LocalProcesses) -> None:
    results = dict(processes.map(double, range(50)))
    assert {index: value for index, (value, _) in results.items()} == {number: 2 * number for number in range(50)}
    assert os.getpid() not in {pid for _, pid in results.values()}


def test_one_worker_is_this_process(processes: LocalProcesses) -> None:
    assert [pid for _, (_, pid) in processes.map(double, range(3), at_most=1)] == [os.getpid()] * 3


def test_a_worker_keeps_to_one_cpu(processes: LocalProcesses) -> None:
    for _, (tokenizers, rayon, arrow, threads) in processes.map(threads_at_most, range(2)):
        assert (tokenizers, rayon, arrow) == ("false", "1", 1) and threads <= 1


def test_without_a_number_there_is_a_worker_for_each_cpu_of_this_process() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, [min(allowed)])
        assert LocalProcesses(None).workers == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_failure_is_raised_when_no_other_task_runs_any_more(processes: LocalProcesses, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be done"):
        list(processes.map(write_late_or_fail, [tmp_path / "fails", *(tmp_path / f"{number}" for number in range(20))]))
    written = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) == written < 20


def test_a_failure_keeps_its_type_and_shows_where_it_was_raised(processes: LocalProcesses) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        list(processes.map(open_what_is_not_there, range(4)))
    assert "in open_what_is_not_there" in "".join(traceback.format_exception(raised.value))
    assert raised.value.filename.startswith("/nowhere/")


def test_an_exception_that_cannot_travel_is_not_taken_for_a_killed_worker(processes: LocalProcesses) -> None:
    with pytest.raises(TaskFailed, match="NeedsTwo: left right") as raised:
        list(processes.map(fail_strangely, range(4)))
    assert "in fail_strangely" in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("after", [0.05, 0.4])
def test_ctrl_c_ends_a_run_whose_workers_are_only_starting(tmp_path: Path, after: float) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import contextlib, far_tasks\n"
        "from data_prep.executors.local import LocalProcesses\n"
        "if __name__ == '__main__':\n"
        "    with contextlib.closing(LocalProcesses(2)) as processes:\n"
        "        print('ready', flush=True)\n"
        "        list(processes.map(far_tasks.double_slowly, range(600)))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    run = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert run.stdout is not None and run.stdout.readline() == "ready\n"
    time.sleep(after)
    os.killpg(run.pid, signal.SIGINT)  # as the terminal does: to the workers as well
    try:
        _, messages = run.communicate(timeout=20)
        assert run.returncode != 0 and "KeyboardInterrupt" in messages
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def test_a_killed_worker_is_told_and_the_next_tasks_have_new_ones() -> None:
    executor = LocalProcesses(2)
    with pytest.raises(UserError, match="killed from outside"):
        list(executor.map(die, range(4)))
    assert len(list(executor.map(double, range(4)))) == 4
    executor.close()


def test_what_workers_say_last_is_not_lost(tmp_path: Path) -> None:
    script = tmp_path / "say.py"
    script.write_text(
        "from data_prep.executors.local import LocalProcesses\n"
        "if __name__ == '__main__':\n"
        "    executor = LocalProcesses(2)\n"
        "    list(executor.map(print, ['one', 'two', 'three']))\n"
        "    executor.close()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == ["one", "three", "two"]
