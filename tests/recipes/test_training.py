"""Real launches on the CPU: sharding changes nothing, a killed run becomes the run that would have been."""

import json
import re
import time
from contextlib import suppress

import pytest

from base.storage import free_bytes
from model.checkpoint import fetch, list_checkpoints
from recipes.metrics import NORM, series

pytestmark = pytest.mark.slow

NO_DROPOUT = {"model.attn_pdrop=0.0", "model.resid_pdrop=0.0", "model.embd_pdrop=0.0"}


def test_a_killed_run_resumes_bit_for_bit_within_an_epoch_and_at_its_end(new_run):
    """Dropout on. Killed after the save at 4 and after that at 12, where the first epoch ends."""
    whole = new_run("whole", save_interval="4ba", save_num_checkpoints_to_keep=2)
    killed = new_run("killed", save_interval="4ba")
    whole.train(2)
    killed.train_and_kill(2, at_batch=6, saved="ep0-ba4")
    killed.train_and_kill(2, at_batch=13, saved="ep0-ba12")
    output = killed.train(2)
    assert re.search("resumed at batch (12|16)", output)  # 16 when the kill came late
    assert len(whole.losses()) == 20
    assert killed.losses() == whole.losses()
    assert series(killed.metrics(), NORM) == series(whole.metrics(), NORM)

    assert [found.batch for found in list_checkpoints(str(whole.checkpoints))] == [16, 20]  # kept: the newest two
    assert {path.name for path in whole.checkpoints.iterdir()} == {"config.yaml", "ep1-ba16", "ep1-ba20"}
    assert list((whole.folder / "run" / "staging").iterdir()) == []
    waited = series(whole.metrics(), "checkpoint/seconds_waited")
    assert waited[0] == [4, 8, 12, 16, 20] and all(seconds > 0 for seconds in waited[1])
    assert series(whole.metrics(), "checkpoint/seconds_uploading")[0] == [8, 12, 16, 20]  # of the one before
    manifest = json.loads((whole.checkpoints / "ep1-ba20" / "manifest.json").read_text())
    assert {"__0_0.distcp", "__1_0.distcp", ".metadata", "tokenizer.json"} <= set(manifest["files"])


def test_a_checkpoint_between_two_epochs_is_gone_on_from_in_the_second(new_run):
    run = new_run("between", save_interval="1ep")
    run.train(2)
    losses = run.losses()
    assert [found.batch for found in list_checkpoints(str(run.checkpoints))] == [12, 20]
    (run.checkpoints / "ep1-ba20" / "manifest.json").unlink()
    assert "resumed at batch 12" in run.train(2)
    assert run.losses() == losses


def test_saves_by_time_come_by_the_clock_of_training_and_at_the_end(new_run):
    run = new_run("seconds", save_interval="1sec", max_duration="80ba")
    run.train(2)
    batches = [found.batch for found in list_checkpoints(str(run.checkpoints)) if found.whole]
    assert batches[-1] == 80 and 2 <= len(batches) < 40
    assert not any(found.set_aside for found in list_checkpoints(str(run.checkpoints)))


def test_one_rank_and_two_ranks_give_the_same_losses_and_a_damaged_checkpoint_is_left_out(new_run):
    one, two = new_run("one"), new_run("two")
    one.train(1, *NO_DROPOUT)
    two.train(2, *NO_DROPOUT)
    assert two.losses() == pytest.approx(one.losses(), rel=1e-5)
    assert series(two.metrics(), NORM)[1] == pytest.approx(series(one.metrics(), NORM)[1], rel=1e-3)
    assert two.losses()[-1] < two.losses()[0] - 0.05

    assert "nothing left to train" in two.train(1, *NO_DROPOUT)  # the same command again is no error

    # Two ranks wrote; damage the newest, cut the manifest off the one before: the third from the end is taken.
    newest, before = two.checkpoints / "ep1-ba20", two.checkpoints / "ep1-ba15"
    shard = newest / "__1_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    (before / "manifest.json").unlink()
    output = two.train(1, *NO_DROPOUT)
    assert "__1_0.distcp: its sha256 is not the manifest's" in output
    assert "resumed at batch 10" in output
    assert two.losses() == pytest.approx(one.losses(), rel=1e-5)
    assert [found.batch for found in list_checkpoints(str(two.checkpoints)) if found.whole] == [5, 10, 15, 20]
    assert not shard.exists()  # nothing of what lay there before could be taken for a file of the new checkpoint

    # The other way round: the model of a single rank is not sharded, and its checkpoints are for any number of them.
    losses = one.losses()
    for batch in (15, 20):
        (one.checkpoints / f"ep1-ba{batch}" / "manifest.json").unlink()
    assert "resumed at batch 10" in one.train(2, *NO_DROPOUT)
    assert one.losses() == pytest.approx(losses, rel=1e-5)


def test_a_full_disk_during_a_save_is_one_clear_error_and_leaves_no_checkpoint(new_run, small_disk):
    run, disk = new_run("full"), small_disk("2m")
    process = run.start(2, f"run_folder={disk}/run")
    while not (disk / "run" / "config.yaml").exists():  # the disk is found large enough by then
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while free_bytes(disk) > 300_000:
            filler.write(bytes(4096))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert re.search(r"staging/ep0-ba5-rank\d: (cannot be written: No space|a file came out short)", output)
    assert "Traceback" not in output
    assert not any(found.whole for found in list_checkpoints(str(run.checkpoints)))
    parts = [json.loads(part.read_text()) for part in run.checkpoints.glob("ep0-ba5/manifest.?.json")]
    assert any("fault" in part for part in parts) and list((disk / "run" / "staging").iterdir()) == []


def test_a_folder_of_checkpoints_that_is_full_is_one_clear_error_and_the_last_whole_one_is_intact(new_run, small_disk):
    disk = small_disk("4m")
    run = new_run("full", save_folder=f"{disk}/checkpoints", max_duration="60ba", save_num_checkpoints_to_keep=2)
    process = run.start(2)
    while not list_checkpoints(f"{disk}/checkpoints") or not list_checkpoints(f"{disk}/checkpoints")[0].whole:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert re.search(r"checkpoints/ep\d-ba\d+/\S+: cannot be written: No space left on device", output)
    assert "Traceback" not in output
    (disk / "filler").unlink()
    whole = [found for found in list_checkpoints(f"{disk}/checkpoints") if found.whole]
    for found in whole:
        fetch(found.location, run.folder / "fetched")
    assert whole and f"resumed at batch {whole[-1].batch}" in run.train(2)


def test_a_disk_that_is_too_small_from_the_beginning_ends_the_run_there_on_all_ranks(new_run, small_disk):
    run = new_run("small")
    process = run.start(2, f"run_folder={small_disk('300k')}/run")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "staging: 0.000 GB are free there" in output and "Traceback" not in output
    assert run.losses() == []
