"""A run that hangs is ended, with the stacks of its ranks and the name of the one that holds up the others."""

import re
import signal

import psutil
import pytest

from base.configuration import load_configuration
from base.errors import UserError
from recipes.schema import Training

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
def test_scoring_and_validation_that_take_longer_than_a_step_are_no_hang(new_run):
    """The watchdog's time is that of one batch of them."""
    run = new_run("slow", **(WATCHED | {"max_duration": "20ba"}))
    assert "watchdog" not in run.train(2)


@pytest.mark.parametrize("seconds", [5, 15])
def test_a_watchdog_barks_after_the_longest_upload_and_before_torch_gives_up(new_run, seconds):
    run = new_run("times", **(WATCHED | {"callbacks": {"watchdog": {"seconds": seconds}}}))
    with pytest.raises(UserError, match=r"callbacks\.watchdog\.seconds: .* must lie between half of dist_timeout 15"):
        load_configuration(str(run.folder / "run.yaml"), [], Training)
