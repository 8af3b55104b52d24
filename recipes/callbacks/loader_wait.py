"""How long each step waits for its batch."""

import torch
from composer import Callback, Logger, State
from composer.utils import dist

from recipes.train_loader import TrainLoader


class LoaderWait(Callback):
    """Log what the loader cost.

    Each batch: ``time/loader_wait``, the seconds that rank 0 waited for it. Each ``batch_interval`` batches: the mean
    of these seconds on the rank that waited longest, ``time/loader_wait_max``, and which, ``time/loader_wait_rank``.
    """

    def __init__(self, batch_interval: int):
        self.batch_interval = batch_interval
        self.seconds = 0.0
        self.batches = 0

    def batch_start(self, state: State, logger: Logger) -> None:
        assert isinstance(state.dataloader, TrainLoader)
        self.seconds += state.dataloader.waited
        self.batches += 1
        logger.log_metrics({"time/loader_wait": state.dataloader.waited})

    def batch_end(self, state: State, logger: Logger) -> None:
        if state.timestamp.batch.value % self.batch_interval:
            return
        means = on_every_rank(self.seconds / self.batches, state)
        self.seconds, self.batches = 0.0, 0
        worst = max(range(len(means)), key=means.__getitem__)
        logger.log_metrics({"time/loader_wait_max": means[worst], "time/loader_wait_rank": worst})


def on_every_rank(value: float, state: State) -> list[float]:
    """The value of each rank, by rank. All ranks must ask at the same batch; it costs one small collective."""
    mine = state.device.tensor_to_device(torch.tensor([value], dtype=torch.float32))
    return torch.cat([one.cpu() for one in dist.all_gather(mine)]).tolist()
