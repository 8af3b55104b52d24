"""A run that is asked to end, or loses its launcher, saves where it is and becomes the run that would have been."""

import re
import signal
import time

import psutil
import pytest
from small_runs import make_run

from model.checkpoint import list_checkpoints
from recipes.signals import ONE_REQUEST

pytestmark = pytest.mark.slow

LONG = {"max_duration": "60ba", "save_interval": "25ba"}  # 12 batches an epoch


@pytest.fixture
def new_run(new_run):
    """Started as everywhere else: a rank must be an interpreter of its own that the launcher has started."""

    def cold_run(name, **changes):
        run = new_run(name, **changes)
        run.cold = True
        return run

    return cold_run


def ranks_of(process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


@pytest.mark.parametrize("asked", ["each rank", "one rank of two", "the launcher is killed"])
def test_a_run_that_is_asked_to_end_saves_after_its_batch_and_goes_on_bit_for_bit(new_run, whole_run, asked):
    run = new_run("asked", **LONG)
    process = run.start(2)
    run.wait_for(process, 8)
    ranks = ranks_of(process)
    if asked == "the launcher is killed":
        process.kill()
        psutil.wait_procs(ranks, timeout=60)
    else:
        for rank in ranks if asked == "each rank" else ranks[1:]:
            rank.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=60)
    if asked != "the launcher is killed":
        assert process.returncode == 75, output
        assert re.search(r"stopped: asked to end, after batch \d+; its checkpoint is whole", output)
    assert not any(rank.is_running() for rank in ranks)
    (saved,) = list_checkpoints(str(run.checkpoints))
    assert saved.whole and 8 <= saved.batch < 25  # not at an interval: where it was
    assert f"resumed at batch {saved.batch}" in run.train(2)
    assert run.losses() == whole_run.losses()


def test_a_second_signal_ends_at_once_and_the_run_goes_on_from_the_last_whole_checkpoint(new_run, whole_run):
    run = new_run("twice", **(LONG | {"save_interval": "5ba"}))
    process = run.start(2)
    run.wait_for(process, 6)
    ranks = ranks_of(process)
    ranks[0].send_signal(signal.SIGSTOP)  # so that the first signal cannot be heeded
    for number, wait in ((signal.SIGUSR1, 0), (signal.SIGTERM, ONE_REQUEST + 0.5), (signal.SIGTERM, 1)):
        assert ranks[1].status() != psutil.STATUS_ZOMBIE  # not after the last, which may have ended it by then
        ranks[1].send_signal(number)  # at once again is the same request, after a while it is another
        time.sleep(wait)
    ranks[0].send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode not in (0, 2, 75), output
    assert run.losses() == whole_run.losses()[: len(run.losses())]
    run.train(2)
    assert run.losses() == whole_run.losses()


def test_a_rank_that_dies_takes_the_others_with_it_at_once(new_run):
    """Composer's launcher sends them SIGTERM: there is nobody to finish the batch with, and 30 seconds to lose."""
    run = new_run("dead", **LONG)
    process = run.start(2)
    run.wait_for(process, 3)
    ranks = ranks_of(process)
    ranks[1].kill()
    began = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - began < 25
    assert list_checkpoints(str(run.checkpoints)) == []


def test_a_run_without_a_place_for_checkpoints_says_that_nothing_is_kept(new_run):
    run = new_run("nowhere", **(LONG | {"save_folder": None, "autoresume": False}))
    process = run.start(1)
    run.wait_for(process, 3)
    ranks_of(process)[0].send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "without save_folder nothing is kept" in output


@pytest.mark.parametrize(("batch", "code"), [(0, 2), (3, 1)])
def test_a_first_step_that_does_not_fit_into_memory_is_the_users_to_mend_and_a_later_one_may_pass(new_run, batch, code):
    run = new_run("memory", **LONG)
    run.script = "benchmarks/chaos/watched_train.py"
    run.environment = {"WATCHED": str(run.folder / "watched"), "BAD_BATCH": str(batch), "BAD_BY": "memory"}
    output = run.train(1, code=code)
    assert ("take a smaller device_train_microbatch_size than 2" in output) == (code == 2)
    assert ("Traceback" in output) == (code == 1)


def test_what_a_start_took_is_logged_by_its_parts(whole_run):
    first = whole_run.metrics()[1]
    parts = {name.removeprefix("start/"): value for name, value in first.items() if name.startswith("start/")}
    total = parts.pop("total")
    assert set(parts) == {"imports", "ranks", "checkpoint", "model", "data", "trainer", "first_step"}
    assert sum(parts.values()) == pytest.approx(total) and all(seconds >= 0 for seconds in parts.values())
    assert "start/total" not in whole_run.metrics()[2]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, packed):
    """The run that is not disturbed."""
    run = make_run(tmp_path_factory.mktemp("undisturbed"), packed, "whole", LONG)
    run.train(2)
    return run
