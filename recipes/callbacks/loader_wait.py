"""How long each step waits for its batch, and what happens when there is something wrong with it."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import dist
from streaming import StreamingDataLoader

from base.errors import UserError
from recipes.together import together


class TimedLoader(StreamingDataLoader):
    """A StreamingDataLoader that notes how long the last batch was waited for, and what ended it.

    Only the loader can tell: between the Trainer's events before and after it lies an agreement of all ranks, which
    would give every rank the wait of the slowest.

    Attributes:
        waited: seconds from the request of the last batch to its arrival.
        arrived: ``time.perf_counter()`` at its arrival.
        fault: what is wrong with the data, when it ended for that; see :class:`EndTogether`.
    """

    waited = 0.0
    arrived = 0.0
    fault: UserError | None = None

    def __iter__(self) -> Iterator[Any]:
        if self.fault is not None:
            raise self.fault  # nobody has told it
        batches = super().__iter__()
        while True:
            asked = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except UserError as error:
                self.fault = error
                return
            self.arrived = time.perf_counter()
            self.waited = self.arrived - asked
            yield batch


class EndTogether(Callback):
    """Raise on every rank what is wrong with the data on any.

    Before each batch the ranks agree whether all have one, and end the epoch together when one has none. So a loader
    that meets a fault ends, and it is told here: no rank is left waiting for another, and no batch costs more.
    """

    def epoch_end(self, state: State, logger: Logger) -> None:
        def tell() -> None:
            assert isinstance(state.dataloader, TimedLoader)
            if state.dataloader.fault is not None:
                raise state.dataloader.fault

        together(tell)


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
        assert isinstance(state.dataloader, TimedLoader)
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
