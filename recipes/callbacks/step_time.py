"""How long a step takes, and which rank the others wait for."""

import time
from statistics import median

from composer import Callback, Logger, State

from recipes.callbacks.loader_wait import on_every_rank
from recipes.train_loader import TrainLoader


class StepTime(Callback):
    """Log the time of a step, by the clock of the host.

    Each batch: ``time/step``, the seconds from the start of the batch before to the start of this one, on rank 0. What
    lies between (evaluations, checkpoints) is in it. It is the same on every rank, since in each step all wait for the
    slowest; so it cannot tell which that is.

    What can be told without holding up the GPU is who comes last to the point, once a step, where the Trainer asks all
    ranks whether they have a batch: by then the GPU has done the step, because the Trainer has read the loss. Each
    ``batch_interval`` batches the ranks exchange the mean time of a step less what each waited there for the others:
    ``time/step_alone_median``, ``time/step_alone_max`` and ``time/slowest_rank``, which names the rank of the latter. A
    slow loader, disk, processor or pause of Python shows in it. A slow GPU does not: under sharding the others wait
    for it within the step.
    """

    def __init__(self, batch_interval: int):
        self.batch_interval = batch_interval
        self.started: float | None = None
        self.waited = 0.0  # for the other ranks, since the start of the batch before
        self.alone = 0.0
        self.steps = 0

    def after_dataloader(self, state: State, logger: Logger) -> None:
        assert isinstance(state.dataloader, TrainLoader)
        self.waited = time.perf_counter() - state.dataloader.arrived

    def batch_start(self, state: State, logger: Logger) -> None:
        now = time.perf_counter()
        if self.started is not None:
            step = now - self.started
            self.alone += step - self.waited
            self.steps += 1
            logger.log_metrics({"time/step": step})
        self.started = now

    def batch_end(self, state: State, logger: Logger) -> None:
        if state.timestamp.batch.value % self.batch_interval or not self.steps:
            return
        means = on_every_rank(self.alone / self.steps, state)
        self.alone, self.steps = 0.0, 0
        slowest = max(range(len(means)), key=means.__getitem__)
        logger.log_metrics(
            {
                "time/step_alone_median": median(means),
                "time/step_alone_max": means[slowest],
                "time/slowest_rank": slowest,
            }
        )
