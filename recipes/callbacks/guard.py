"""Looks at the loss and the gradient norm of every step, before it is taken, on all ranks alike."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from statistics import fmean, pstdev
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import dist

from base.errors import MayPass, StartAgain, UserError
from base.progress import say
from model.checkpoint import read_manifest
from recipes.callbacks.clip_grad_norm import ClipGradNorm
from recipes.callbacks.save_checkpoints import SaveCheckpoints
from recipes.interventions import LeftOut, Stop, read_interventions, to_go_on_from, write_interventions
from recipes.schema import Guard as Settings
from recipes.together import together
from recipes.train_loader import TrainLoader

ENOUGH = 2  # a spike is judged once a window has been filled by half
STRICTEST_LAST = ("skip", "roll_back", "stop")
FLAT = 1e-3  # of the mean: a window that varies less is taken to vary so much


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a step, and what to do about it."""

    kind: str  # not_finite, loss_spike, gradient_spike
    policy: str  # stop, skip, roll_back
    told: str


class Guard(Callback):
    """Stops, skips a step, or goes back and leaves batches out, when a step's loss or gradient norm is not sound.

    Judged are the means over all ranks of the loss and of the norm of the whole gradient: the same two numbers on every
    rank, to the last bit, so that all decide alike. (Of the norm that is no matter of course: under HYBRID_SHARD each
    copy of the model adds it up by itself.) It costs one small all-reduce and one wait for the device a step.

    *Not finite*: either is NaN or infinite. *Spike*: it lies more than ``deviations`` standard deviations above the
    mean of the last ``window`` sound steps (OLMo's rule for skipping a step). A step that is skipped leaves weights and
    the optimizer's state as they were, its batch counts as done. The windows are kept in checkpoints: a run that goes
    on decides as it would have. Of two kinds at once the stricter policy counts. (A save before the first step that was
    taken has torch make the optimizer's state, and count a step of it.)

    Logged, at the batch: ``guard/skipped/KIND``; ``guard/stopped/KIND``; ``guard/rolled_back/KIND``.

    Args:
        settings: the policies.
        clip: where the norm is computed; it comes before this.
        checkpoints: what writes the checkpoints that can be gone back to; None where none are written.
    """

    def __init__(self, settings: Settings, clip: ClipGradNorm, checkpoints: SaveCheckpoints | None):
        self.settings, self.clip, self.checkpoints = settings, clip, checkpoints
        self.losses: deque[float] = deque(maxlen=settings.window)
        self.norms: deque[float] = deque(maxlen=settings.window)
        self.skipped: list[int] = []  # batches, within the last window
        self.loss: torch.Tensor | None = None
        self.rows = 0
        if checkpoints is not None:
            checkpoints.notes["guard"] = self.windows

    def windows(self) -> dict[str, Any]:
        """What a run that goes on must know, as JSON; for the manifest."""
        return {"losses": list(self.losses), "norms": list(self.norms), "skipped": self.skipped}

    def go_on(self, windows: dict[str, Any]) -> None:
        """Judge by the windows of the checkpoint that the run goes on from."""
        self.losses.extend(windows["losses"])
        self.norms.extend(windows["norms"])
        self.skipped = list(windows["skipped"])

    def after_backward(self, state: State, logger: Logger) -> None:
        """Add up the losses of the microbatches on the device; each is a mean over its rows."""
        rows = len(state.batch["input_ids"])
        loss = state.loss.detach().float() * rows
        self.loss = loss if self.loss is None else self.loss + loss
        self.rows += rows

    def after_train_batch(self, state: State, logger: Logger) -> None:
        assert self.loss is not None and self.clip.norm is not None
        means = torch.stack([self.loss.reshape(()) / self.rows, self.clip.norm.reshape(())]) / dist.get_world_size()
        self.loss, self.rows = None, 0
        dist.all_reduce(means)
        loss, norm = means.tolist()
        verdict = max(self._verdicts(loss, norm), key=lambda one: STRICTEST_LAST.index(one.policy), default=None)
        if verdict is None:
            self.losses.append(loss)
            self.norms.append(norm)
            return
        self._act(verdict, state, logger)

    def _verdicts(self, loss: float, norm: float) -> Iterator[Verdict]:
        settings = self.settings
        if not (math.isfinite(loss) and math.isfinite(norm)):
            yield Verdict("not_finite", settings.not_finite, f"loss {loss:g}, gradient norm {norm:g}")
            return
        for kind, policy, value, window in (
            ("loss_spike", settings.loss_spike, loss, self.losses),
            ("gradient_spike", settings.gradient_spike, norm, self.norms),
        ):
            if policy is None or len(window) < max(2, settings.window // ENOUGH):
                continue
            mean = fmean(window)
            deviation = max(pstdev(window, mean), FLAT * abs(mean))
            if value > mean + settings.deviations * deviation:
                what = "loss" if kind == "loss_spike" else "gradient norm"
                yield Verdict(
                    kind, policy, f"{what} {value:.4g}, {(value - mean) / deviation:.1f} deviations above {mean:.4g}"
                )

    def _act(self, verdict: Verdict, state: State, logger: Logger) -> None:
        batch = state.timestamp.batch.value
        told = f"batch {batch}: {verdict.kind.replace('_', ' ')}: {verdict.told}"
        policy = "skip" if verdict.policy == "roll_back" and _is_last(state) else verdict.policy
        if policy == "skip":
            self.skipped = [one for one in self.skipped if one > batch - self.settings.window] + [batch]
            if len(self.skipped) <= self.settings.most_skips:
                for parameter in state.model.parameters():
                    parameter.grad = None  # the optimizer passes over these, with their state
                self._tell(f"{told}; the step is skipped", {f"guard/skipped/{verdict.kind}": 1}, logger)
                return
            told += f"; {len(self.skipped)} of the last {self.settings.window} steps would be skipped"
        if policy == "roll_back":
            self._tell(told, {f"guard/rolled_back/{verdict.kind}": 1}, logger)
            raise StartAgain(dist.all_gather_object(together(partial(self._roll_back, told, state)))[0])
        self._tell(told, {f"guard/stopped/{verdict.kind}": 1}, logger)
        together(partial(self._note_stop, batch, verdict, told))
        raise MayPass(
            f"{told}; started again, the run goes on from its last checkpoint, and ends for good if it ends here again",
            shared=True,
        )

    def _tell(self, told: str, metrics: dict[str, float], logger: Logger) -> None:
        logger.log_metrics(metrics)
        if dist.get_global_rank() == 0:
            say(f"guard: {told}")

    def _note_stop(self, batch: int, verdict: Verdict, told: str) -> None:
        """Raises UserError where the run has been stopped here before: another start would end here as well."""
        if self.checkpoints is None:
            raise UserError(f"{told}; without save_folder there is nothing to go on from")
        self.checkpoints.wait_for_upload()
        if dist.get_global_rank() != 0:
            return
        record = read_interventions(self.checkpoints.folder)
        if any(stop.batch == batch and stop.reason == verdict.kind for stop in record.stops):
            raise UserError(
                f"{told}; so it has ended before. Lower optimizer.lr, or leave these batches out: callbacks.guard."
                f"{verdict.kind}=roll_back (or skip)"
            )
        record.stops.append(Stop(batch, verdict.kind, _now()))
        write_interventions(self.checkpoints.folder, record)

    def _roll_back(self, told: str, state: State) -> str:
        """Record what to leave out; the next start goes back by it. Returns what to tell."""
        if self.checkpoints is None:
            raise UserError(f"{told}; without save_folder there is nothing to go back to")
        self.checkpoints.wait_for_upload()
        if dist.get_global_rank() != 0:
            return ""
        assert isinstance(state.dataloader, TrainLoader)
        record = read_interventions(self.checkpoints.folder)
        if len(record.left_out) >= self.settings.most_roll_backs:
            raise UserError(
                f"{told}; the run has gone back {len(record.left_out)} times already (callbacks.guard.most_roll_backs)"
            )
        batch = state.timestamp.batch.value
        saves = [one for one in to_go_on_from(self.checkpoints.folder) if one.batch <= batch]
        if not saves:
            raise UserError(f"{told}; there is no checkpoint to go back to")
        back = saves[-min(self.settings.saves_back, len(saves))]
        left_out = LeftOut(
            from_batch=back.batch,
            to_batch=batch + 1,
            from_sample=read_manifest(back.location)["token"] // state.model.config.max_seq_len,
            to_sample=state.dataloader.next_sample,
            reason=told,
            written=_now(),
        )
        record.left_out.append(left_out)
        write_interventions(self.checkpoints.folder, record)
        return f"{told}; going back to batch {back.batch}, batches {back.batch} to {batch} are left out"


def _is_last(state: State) -> bool:
    """Whether the run ends with this batch: there is nothing after it to go on with."""
    assert state.max_duration is not None and isinstance(state.dataloader, TrainLoader)
    samples = state.dataloader.next_sample - state.timestamp.sample.value
    after = state.timestamp.to_next_batch(samples=samples, tokens=samples * state.model.config.max_seq_len)
    return after >= state.max_duration


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
