"""A run that hangs is ended, with the stacks of its ranks and the name of the one that holds up the others."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from composer.core import Timestamp

from base.configuration import load_configuration
from base.errors import UserError
from recipes.callbacks.watchdog import Watchdog
from recipes.schema import Training

ROOT = Path(__file__).parents[2]

WATCHED = {
    "callbacks": {"watchdog": {"seconds": 8}},
    "dist_timeout": 15,
    "max_duration": "400ba",
    "console_log_interval": "200ba",
}


@pytest.mark.slow
@pytest.mark.parametrize("hang", ["a rank is stopped", "a loader worker is stopped"])
def test_a_run_that_hangs_is_ended_with_every_ranks_stack(new_run, hang):
    run = new_run("hangs", **WATCHED)
    process = run.start(2)
    run.wait_for(process, 8)
    ranks = psutil.Process(process.pid).children()
    stopped = ranks[1]
    if hang == "a loader worker is stopped":
        stopped = next(one for one in ranks[1].children() if one.cmdline() == ranks[1].cmdline())
    stopped.send_signal(signal.SIGSTOP)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "watchdog: no step has ended for 8 s" in output
    assert re.search(r"rank 0: \d+ s since: (in|waiting for) batch \d+.*\n  File", output)
    if hang == "a rank is stopped":
        assert "rank 1: no answer" in output
    else:
        assert re.search(r"rank 1: \d+ s since: waiting for batch \d+.*\n  File", output)
        assert "_next_batch" in (run.folder / "run" / "stacks" / "rank-1.txt").read_text()
    assert "Current thread" in (run.folder / "run" / "stacks" / "rank-0.txt").read_text()
    run.train(2, "max_duration=20ba", "scheduler={name: constant_with_warmup, t_warmup: 2ba}", "run_name=again",
              f"save_folder={run.folder}/again")  # fmt: skip


@pytest.mark.slow
def test_a_run_with_scores_and_validation_that_does_not_hang_is_left_alone(new_run):
    run = new_run("slow", **(WATCHED | {"max_duration": "20ba"}))
    assert "watchdog" not in run.train(2)


@pytest.mark.parametrize("seconds", [5, 15])
def test_a_watchdog_barks_after_the_longest_upload_and_before_torch_gives_up(new_run, seconds):
    run = new_run("times", **(WATCHED | {"callbacks": {"watchdog": {"seconds": seconds}}}))
    with pytest.raises(UserError, match=r"callbacks\.watchdog\.seconds: .* must lie between half of dist_timeout 15"):
        load_configuration(str(run.folder / "run.yaml"), [], Training)


@pytest.fixture
def watchdog(tmp_path):
    """One that watches nothing yet."""
    watchdog = Watchdog(1000, tmp_path)
    yield watchdog
    watchdog.over.set()


def test_a_forward_pass_of_an_evaluation_is_a_sign_of_life_and_one_of_training_is_none(watchdog):
    model = torch.nn.Linear(1, 1)
    state: Any = SimpleNamespace(model=model, timestamp=Timestamp())
    watchdog.fit_start(state, SimpleNamespace())
    begin = watchdog.seen
    model(torch.zeros(1))
    assert watchdog.seen == begin
    model.eval()(torch.zeros(1))
    assert watchdog.seen > begin and watchdog.doing == "evaluating"


@pytest.mark.parametrize(("seen", "first"), [((100.0, 97.5, 99.9), 1), ((100.0, 99.8, 100.3), None)])
def test_the_first_to_fall_silent_is_named_only_when_it_was_earlier_than_the_others(
    watchdog, monkeypatch, tmp_path, seen, first
):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    for rank in range(3):
        watchdog.seen, watchdog.doing = seen[rank], f"in batch {rank}"
        (tmp_path / f"rank-{rank}.txt").write_text(watchdog._standing())
    (tmp_path / "rank-3.txt").write_text("")
    told = watchdog._told()
    assert re.search(r"rank 2: \d+ s since: in batch 2\n  File .*rank 3: no answer", told, re.DOTALL)
    assert ("first to fall silent" in told) == (first is not None)
    assert first is None or f"first to fall silent: rank {first}\n" in told


def test_a_watchdog_whose_folder_is_gone_ends_all_the_same(tmp_path):
    script = """
import shutil, sys, time
from pathlib import Path
from recipes.callbacks import watchdog
watchdog.SPEAK_SECONDS = 0.1
dog = watchdog.Watchdog(0.5, Path(sys.argv[1]))
dog.folder.mkdir()
watchdog.threading.Thread(target=dog._watch, daemon=True).start()
time.sleep(0.2)
shutil.rmtree(dog.folder)
time.sleep(60)
"""
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path / "stacks")], cwd=ROOT, timeout=50, check=False)
    assert result.returncode == 1
