"""What a node starts again, how often and how soon, and that nothing of an attempt is left when the next begins.

Small programs stand for Composer's launcher and its ranks; run_on_node is the real one.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from recipes.launch.run_on_node import in_words, seconds_to_wait

ROOT = Path(__file__).parents[2]

# check or train, and its exit codes (or what it does) in turn; the last one ever after.
LAUNCHER = """\
import os, signal, subprocess, sys, time
name, *turns = sys.argv[1:]
before = open("log").read().split() if os.path.exists("log") else []
if os.path.exists("left"):
    alive = [pid for pid in open("left").read().split() if os.path.exists(f"/proc/{pid}")]
    assert not alive, alive
with open("log", "a") as log:
    log.write(f"{name}{os.environ['BIOMEDLM_RESTARTS']} ")
turn = turns[min(sum(one.startswith(name) for one in before), len(turns) - 1)]
if turn == "long":
    time.sleep(1.5)
    sys.exit(1)
if turn == "rank":
    sys.exit(subprocess.call([sys.executable, "rank.py"]))
if turn == "killed":  # with a rank that saves, and a worker of its own session that heeds nothing
    subprocess.Popen([sys.executable, "rank.py"])
    subprocess.Popen([sys.executable, "worker.py"], start_new_session=True)
    while not (os.path.exists("rank-is-up") and os.path.exists("worker-is-up")):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(int(turn)) if int(turn) >= 0 else os.kill(os.getpid(), -int(turn))
"""

# As a rank of training: told by the kernel when its launcher is gone; a second signal ends it at once.
RANK = """\
import ctypes, os, signal, sys, time
def save(number, frame):
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    time.sleep(1)
    open("log", "a").write("saved ")
    sys.exit(75)
signal.signal(signal.SIGUSR1, save)
ctypes.CDLL(None).prctl(1, signal.SIGUSR1)
open("left", "a").write(f"{os.getpid()} ")
open("rank-is-up", "w").close()
time.sleep(300)
"""

WORKER = """\
import os, signal, time
for one in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
    signal.signal(one, signal.SIG_IGN)
open("left", "a").write(f"{os.getpid()} ")
open("worker-is-up", "w").close()
time.sleep(300)
"""


@pytest.fixture
def on_node(tmp_path):
    """Start run_on_node with the turns of the check and of training; what it says goes to ``said``."""
    for name, text in {"launcher.py": LAUNCHER, "rank.py": RANK, "worker.py": WORKER}.items():
        (tmp_path / name).write_text(text)
    started = []

    def start(train: str, *options: str, check: str = "0", most: int = 5) -> subprocess.Popen:
        command = [sys.executable, "-m", "recipes.launch.run_on_node", "--grace-seconds=5", f"--max-restarts={most}",
                   "--backoff-seconds=0.1", *options, sys.executable, "launcher.py", "check", *check.split(),
                   "--then", sys.executable, "launcher.py", "train", *train.split()]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=(tmp_path / "said").open("w")
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
    for pid in read(tmp_path / "left").split():
        if psutil.pid_exists(int(pid)):
            os.kill(int(pid), signal.SIGKILL)


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def wait_for(what, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def test_whatever_training_fails_by_check_and_training_run_again_and_each_restart_is_told(on_node, tmp_path):
    process = on_node("1 75 -9 241 0")
    assert process.wait(timeout=60) == 0
    assert read(tmp_path / "log").split() == [f"{name}{number}" for number in range(5) for name in ("check", "train")]
    said = read(tmp_path / "said")
    for number, words in enumerate(("1 (a failure)", "75 (ended early, all saved)", "137 (SIGKILL)", "241 (SIGTERM)")):
        assert f": exit code {words}; restart {number + 1} of 5 in " in said


@pytest.mark.parametrize("code", [0, 2, 130])
def test_what_is_done_or_would_be_repeated_or_was_asked_for_is_not_started_again(on_node, tmp_path, code):
    assert on_node(f"{code} 0").wait(timeout=60) == code
    assert read(tmp_path / "log").split() == ["check0", "train0"]


def test_training_is_not_begun_while_the_check_fails(on_node, tmp_path):
    assert on_node("0", check="1 1 2").wait(timeout=60) == 2
    assert read(tmp_path / "log").split() == ["check0", "check1", "check2"]


@pytest.mark.parametrize("code", [1, 75])
def test_the_limit_is_one_of_failures_in_a_row_and_the_last_exit_code_comes_back(on_node, tmp_path, code):
    assert on_node(str(code), most=2).wait(timeout=60) == code
    assert read(tmp_path / "log").count("train") == 3


def test_without_a_limit_nothing_is_started_again(on_node, tmp_path):
    assert on_node("1 0", most=0).wait(timeout=60) == 1
    assert read(tmp_path / "log").split() == ["check0", "train0"]


@pytest.mark.parametrize(
    ("check", "train", "attempts"),
    [("0", "1 long 1", 3), ("0 long 0", "1 1 1", 2)],
    ids=["training", "not its check"],
)
def test_training_that_has_run_for_long_begins_the_count_anew(on_node, tmp_path, check, train, attempts):
    assert on_node(train, "--steady-seconds=1", check=check, most=1).wait(timeout=60) == 1
    assert read(tmp_path / "log").count("check") == attempts


def test_waits_double_up_to_five_minutes_and_what_has_saved_all_does_not_wait():
    assert [seconds_to_wait(1, failures, 10.0) for failures in range(1, 8)] == [10, 20, 40, 80, 160, 300, 300]
    assert seconds_to_wait(75, 7, 10.0) == 0


def test_exit_codes_of_signals_are_told_by_name_as_a_shell_and_as_composers_launcher_count_them():
    assert [in_words(code) for code in (137, 247, 3)] == ["137 (SIGKILL)", "247 (SIGKILL)", "3"]


def test_a_signal_ends_the_wait_and_nothing_is_started_again(on_node, tmp_path):
    process = on_node("1", "--backoff-seconds=300")
    wait_for(lambda: "restart 1 of 5 in 5m00s" in read(tmp_path / "said"), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert read(tmp_path / "log").split() == ["check0", "train0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_ranks_that_were_told_to_save_are_not_started_again(on_node, tmp_path, number):
    process = on_node("rank")
    wait_for(lambda: (tmp_path / "rank-is-up").exists(), process)
    process.send_signal(number)
    assert process.wait(timeout=60) == 75
    assert read(tmp_path / "log").split() == ["check0", "train0", "saved"]
    assert "restart" not in read(tmp_path / "said")


def test_the_signal_that_slurm_sends_to_every_process_reaches_ranks_once_and_as_the_one_they_heed(on_node, tmp_path):
    process = on_node("rank")
    wait_for(lambda: (tmp_path / "rank-is-up").exists(), process)
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.send_signal(signal.SIGUSR2)
    assert process.wait(timeout=60) == 75
    assert read(tmp_path / "log").split() == ["check0", "train0", "saved"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR2, 140), (signal.SIGINT, 130)])
def test_ranks_that_have_saved_nothing_end_with_the_code_of_the_signal(on_node, tmp_path, number, code):
    process = on_node("long")
    wait_for(lambda: "train0" in read(tmp_path / "log"), process)
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    assert read(tmp_path / "log").split() == ["check0", "train0"]


def test_ranks_of_a_killed_launcher_save_first_and_what_heeds_nothing_is_killed_before_the_next_attempt(
    on_node, tmp_path
):
    process = on_node("killed 0")
    assert process.wait(timeout=60) == 0  # the next attempt looks for them
    assert read(tmp_path / "log").split() == ["check0", "train0", "saved", "check1", "train1"]
    assert "killing what has outlived its launcher: process " in read(tmp_path / "said")


def test_a_signal_after_the_launcher_was_killed_lets_its_ranks_save_and_a_second_does_not_wait(on_node, tmp_path):
    process = on_node("killed", "--grace-seconds=300")
    wait_for(lambda: "outlived" in read(tmp_path / "said"), process)
    process.send_signal(signal.SIGTERM)
    wait_for(lambda: "saved" in read(tmp_path / "log"), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert not any(psutil.pid_exists(int(pid)) for pid in read(tmp_path / "left").split())
    assert "check1" not in read(tmp_path / "log")
