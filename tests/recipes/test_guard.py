"""What a guard does about a step that is not sound: the same on all ranks, recorded, and again after a resume."""

import json
import math
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer.core import Time, Timestamp
from small_runs import make_run

from base.configuration import load_configuration
from base.errors import MayPass, UserError
from benchmarks.chaos.chaos import trained
from model.checkpoint import list_checkpoints
from recipes.batch_size import BatchSizes
from recipes.callbacks.guard import Guard
from recipes.callbacks.place_in_data import PlaceInData
from recipes.callbacks.save_checkpoints import SaveCheckpoints
from recipes.interventions import Interventions, LeftOut, read_interventions, to_go_on_from, write_interventions
from recipes.schema import Guard as Settings
from recipes.schema import Training
from recipes.train_loader import TrainLoader

NAN, INF = math.nan, math.inf
GUARD = {"window": 8, "deviations": 6.0, "most_skips": 2}
WATCHED = "benchmarks/chaos/watched_train.py"
RUN = {"max_duration": "30ba", "save_interval": "5ba"}


class Steps:
    """Steps of a guard without a Trainer: of each what it logs, and whether the gradient is still there after it."""

    def __init__(self, checkpoints: SaveCheckpoints | None = None, **settings: Any):
        self.parameter = torch.nn.Parameter(torch.zeros(2))
        self.clip: Any = SimpleNamespace(norm=None)
        self.guard = Guard(Settings(**(GUARD | settings)), self.clip, checkpoints)
        self.batch = 0

    def take(self, loss: float, norm: float = 1.0, until: int = 100) -> tuple[dict[str, float], bool]:
        """One step of a run of ``until`` batches."""
        logged: dict[str, float] = {}
        logger: Any = SimpleNamespace(log_metrics=logged.update)
        self.parameter.grad = torch.ones(2)
        state: Any = SimpleNamespace(
            batch={"input_ids": torch.zeros(2, 4)},
            loss=torch.tensor(loss),
            model=SimpleNamespace(parameters=lambda: [self.parameter], config=SimpleNamespace(max_seq_len=4)),
            timestamp=Timestamp(batch=self.batch, sample=6 * self.batch),
            dataloader=small_loader(next_sample=6 * (self.batch + 1)),
            max_duration=Time(until, "ba"),
        )
        for _ in range(3):
            self.guard.after_backward(state, logger)
        self.clip.norm = torch.tensor(norm)
        self.batch += 1
        self.guard.after_train_batch(state, logger)
        return logged, self.parameter.grad is not None


@pytest.mark.parametrize(("loss", "norm"), [(NAN, 1.0), (INF, 1.0), (1.0, NAN), (1.0, INF), (-INF, 1.0)])
def test_a_loss_or_a_norm_that_is_not_finite_is_skipped_with_its_gradient(loss, norm):
    steps = Steps(not_finite="skip")
    assert steps.take(1.0) == ({}, True)
    assert steps.take(loss, norm) == ({"guard/skipped/not_finite": 1}, False)
    assert steps.take(1.0) == ({}, True)
    assert list(steps.guard.losses) == [1.0, 1.0]  # what was not sound is nothing to judge others by


def test_a_spike_is_what_lies_far_above_the_last_steps_and_nothing_below_or_without_enough_of_them():
    steps = Steps(loss_spike="skip", gradient_spike="skip")
    for loss in (9.0, 3.0):  # at the beginning a loss falls fast
        assert steps.take(loss) == ({}, True)
    for number in range(8):
        assert steps.take(2.0 + 0.01 * (number % 2), 1.0 + 0.1 * (number % 2)) == ({}, True)
    assert steps.take(1.0) == ({}, True)
    for _ in range(8):
        steps.take(2.0, 1.0)
    assert steps.take(2.1) == ({"guard/skipped/loss_spike": 1}, False)
    assert steps.take(2.0, 1.1) == ({"guard/skipped/gradient_spike": 1}, False)
    assert steps.take(2.005) == ({}, True)


def test_a_guard_that_is_not_asked_for_does_nothing():
    steps = Steps(not_finite="skip")
    for _ in range(8):
        steps.take(2.0)
    assert steps.take(1000.0, 1000.0) == ({}, True)


def test_of_two_kinds_of_spike_at_once_the_stricter_policy_counts():
    steps = Steps(loss_spike="skip", gradient_spike="stop")
    for _ in range(8):
        steps.take(2.0, 1.0)
    assert steps.take(9.0, 1.0) == ({"guard/skipped/loss_spike": 1}, False)
    with pytest.raises(UserError, match="gradient spike"):
        steps.take(9.0, 9.0)


def test_too_many_skips_within_a_window_stop_the_run_and_old_ones_are_forgotten():
    steps = Steps(not_finite="skip")
    for _ in range(3):
        steps.take(NAN)
        for _ in range(7):
            steps.take(1.0)
    steps.take(NAN)
    steps.take(NAN)
    with pytest.raises(UserError, match=r"batch 26: not finite.*3 of the last 8 steps.*save_folder"):
        steps.take(NAN)


def small_loader(next_sample: int = 0, **settings: Any) -> TrainLoader:
    """Ten sequences in batches of four."""
    loader = TrainLoader(
        BatchSizes(4), 10, [{"input_ids": row} for row in range(10)], batch_size=4,
        collate_fn=lambda rows: {"input_ids": [row["input_ids"] for row in rows]}, **settings,
    )  # fmt: skip
    loader.next_sample = next_sample
    return loader


def test_a_stop_waits_until_the_last_checkpoint_is_up(tmp_path):
    """It is sound; the launcher would end the ranks that still upload when the first has ended."""
    checkpoints = SaveCheckpoints(str(tmp_path), "5ba", tmp_path / "staging", {}, tmp_path, -1, None, 60)
    steps, up = Steps(checkpoints), threading.Event()
    checkpoints.upload = checkpoints.uploader.submit(lambda: (time.sleep(0.3), up.set()) and 0.3)
    with pytest.raises(MayPass, match="goes on from its last checkpoint"):
        steps.take(NAN)
    assert up.is_set()
    assert [stop.batch for stop in read_interventions(str(tmp_path)).stops] == [0]


def test_the_last_step_of_a_run_is_skipped_where_others_are_gone_back_behind_and_stops_it_after_too_many():
    steps = Steps(not_finite="roll_back")
    with pytest.raises(UserError, match="nothing to go back to"):
        steps.take(NAN)
    steps.batch = 19
    assert steps.take(NAN, until=20) == ({"guard/skipped/not_finite": 1}, False)
    steps.batch, steps.guard.skipped = 19, [17, 18]
    with pytest.raises(UserError, match=r"3 of the last 8 steps would be skipped; without .* nothing to go on from"):
        steps.take(NAN, until=20)


def test_windows_go_on_through_a_manifest_exactly():
    steps, again = Steps(loss_spike="skip"), Steps(loss_spike="skip")
    for number in range(20):
        steps.take(2.0 + math.sin(number) / 7)
    again.guard.go_on(json.loads(json.dumps(steps.guard.windows())))
    assert again.guard.windows() == steps.guard.windows()
    again.batch = steps.batch
    for number in range(20):
        loss = 2.0 + math.sin(3 * number) / 2
        assert again.take(loss) == steps.take(loss)


def test_checkpoints_that_were_gone_back_behind_are_not_gone_on_from(tmp_path):
    for batch in (5, 10, 15, 18, 20):
        (tmp_path / f"ep0-ba{batch}").mkdir()
        (tmp_path / f"ep0-ba{batch}" / "manifest.json").write_text("{}")
    folder = str(tmp_path)
    assert read_interventions(folder) == Interventions()
    record = Interventions([LeftOut(10, 18, 40, 72, "a spike", "2026-11-27")])
    write_interventions(folder, record)
    assert read_interventions(folder) == record
    assert [one.batch for one in to_go_on_from(folder)] == [5, 10, 18, 20]  # at 18: after them
    (tmp_path / "guard.json").write_text('{"left_out": 3}')
    with pytest.raises(UserError, match=r"guard\.json: damaged"):
        to_go_on_from(folder)


def test_a_guard_has_its_conditions(new_run):
    guard = {"loss_spike": "roll_back", "saves_back": 3}
    run = new_run("conditions", callbacks={"guard": guard}, algorithms={}, autoresume=False,
                  save_num_checkpoints_to_keep=2)  # fmt: skip
    with pytest.raises(UserError) as refused:
        load_configuration(str(run.folder / "run.yaml"), [], Training)
    assert "callbacks.guard: needs algorithms.gradient_clipping" in str(refused.value)
    assert "callbacks.guard.saves_back: 3, and save_num_checkpoints_to_keep keeps 2" in str(refused.value)
    assert "callbacks.guard.loss_spike: roll_back goes on from a checkpoint" in str(refused.value)


@pytest.fixture(scope="module")
def sound(tmp_path_factory, packed):
    """The run without a bad batch, and what it trained."""
    run = make_run(tmp_path_factory.mktemp("sound"), packed, "sound", RUN)
    run.script, run.environment = WATCHED, {"WATCHED": str(run.folder / "watched")}
    run.train(2)
    return run, trained(run.folder / "watched")


def bad_run(new_run, batch: int, by: str, **guard: Any):
    """A run in whose batch (counted from 0) the second of two ranks has a loss that is not sound."""
    run = new_run("bad", **RUN, callbacks={"guard": GUARD | guard})
    run.script = WATCHED
    run.environment = {"WATCHED": str(run.folder / "watched"), "BAD_BATCH": str(batch), "BAD_BY": by}
    return run


@pytest.mark.slow
def test_a_step_is_skipped_on_both_ranks_when_the_loss_of_one_is_nan_and_again_after_a_kill(new_run, sound):
    run = bad_run(new_run, 16, "nan", not_finite="skip")
    output = run.train(2)
    assert "guard: batch 16: not finite: loss nan" in output and "the step is skipped" in output
    skipped = run.metrics()
    assert [batch for batch, found in skipped.items() if "guard/skipped/not_finite" in found] == [17]
    assert all(math.isfinite(loss) for batch, loss in enumerate(run.losses()) if batch != 16)
    assert run.losses()[:16] == sound[0].losses()[:16]
    assert run.losses()[17] != sound[0].losses()[17]
    losses = run.losses()
    for batch in (20, 25, 30):
        (run.checkpoints / f"ep{(batch - 1) // 12}-ba{batch}" / "manifest.json").unlink()
    assert "resumed at batch 15" in run.train(2)
    assert [str(loss) for loss in run.losses()] == [str(loss) for loss in losses]  # nan among them


@pytest.mark.slow
def test_a_spike_is_gone_back_behind_and_the_batches_between_are_left_out_for_good(new_run, sound):
    """From batch 22 behind the checkpoint at 15: 15 to 22 are left out, across the end of an epoch at 24."""
    run = bad_run(new_run, 22, "100", loss_spike="roll_back", saves_back=2)
    output = run.train(2, code=75)
    assert "going back to batch 15, batches 15 to 22 are left out" in output
    (left_out,) = read_interventions(str(run.checkpoints)).left_out
    assert (left_out.from_batch, left_out.to_batch, left_out.from_sample, left_out.to_sample) == (15, 23, 60, 92)

    output = run.train(2)
    assert "resumed at batch 15" in output and "ep1-ba20: set aside" in output
    again = trained(run.folder / "watched")
    assert {batch: found for batch, found in again.items() if batch >= 23} == {
        batch: found for batch, found in sound[1].items() if batch >= 23
    }
    found = run.metrics()
    assert "guard/rolled_back/loss_spike" in found[22] and found[24]["guard/batches_left_out"] == 8
    assert max(found) == 30
    losses = run.losses()[-7:]

    # Resumed from before them: they are left out again, in the middle of a process, with the same outcome.
    for checkpoint in list_checkpoints(str(run.checkpoints)):
        if checkpoint.whole and checkpoint.batch > 10:
            Path(checkpoint.location, "manifest.json").unlink()
    for file in (run.folder / "watched").iterdir():
        file.unlink()
    assert "resumed at batch 10" in run.train(2)
    assert [*trained(run.folder / "watched")] == [*range(10, 15), *range(23, 30)]
    assert run.losses()[-7:] == losses


@pytest.mark.slow
def test_a_run_that_stops_twice_at_the_same_batch_is_the_users_to_mend(new_run):
    run = bad_run(new_run, 12, "nan")
    output = run.train(2, code=1)
    assert "batch 12: not finite" in output and "ends for good if it ends here again" in output
    output = run.train(2, code=2)
    assert "resumed at batch 10" in output and "so it has ended before" in output
    assert "callbacks.guard.not_finite=roll_back" in output and "Traceback" not in output
    assert [stop.batch for stop in read_interventions(str(run.checkpoints)).stops] == [12]
    assert run.train(2, "callbacks.guard.not_finite=skip")


def test_what_is_left_out_up_to_the_end_of_an_epoch_is_counted_there():
    loader = TrainLoader(
        BatchSizes(4, (8,)), 20, [{"input_ids": row} for row in range(20)], batch_size=2,
        collate_fn=lambda rows: {"input_ids": [row["input_ids"] for row in rows]},
    )  # fmt: skip
    loader.leave_out = [(4, 12), (16, 100)]
    seen = [(list(batch["input_ids"]), loader.left_out) for batch in loader]
    assert seen == [([0, 1], (0, 0)), ([2, 3], (0, 0)), ([12, 13, 14, 15], (3, 8))]
    assert loader.left_out == (1, 4) and loader.next_sample == 20


def test_what_is_left_out_is_counted_once_when_the_run_ends_with_the_last_batch_of_an_epoch():
    """Composer ends the epoch, too, then, and does not ask the loader for another batch before."""
    loader: Any = small_loader(drop_last=True)
    loader.leave_out = [(0, 4)]
    model = SimpleNamespace(config=SimpleNamespace(max_seq_len=8))
    state: Any = SimpleNamespace(dataloader=loader, model=model, timestamp=Timestamp())
    place, logger = PlaceInData(), SimpleNamespace(log_metrics=lambda metrics: None)
    place.fit_start(state, logger)
    next(iter(loader))
    place.after_dataloader(state, logger)
    state.timestamp = state.timestamp.to_next_batch(samples=4, tokens=32).to_next_epoch()
    place.epoch_end(state, logger)
    assert (state.timestamp.batch, state.timestamp.sample, state.timestamp.token) == (2, 8, 64)


def test_a_last_batch_that_is_smaller_counts_for_what_it_holds():
    loader: Any = small_loader(drop_last=False)
    assert [len(batch["input_ids"]) for batch in loader] == [4, 4, 2] and loader.next_sample == 10
    loader.next_sample, loader.leave_out = 0, [(8, 10)]
    assert len(list(loader)) == 2 and loader.left_out == (1, 2)
