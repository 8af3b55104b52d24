"""The loader of a training run: batches that grow, or are left out, and an end that all ranks come to together."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from composer.utils import dist
from streaming import StreamingDataLoader

from base.errors import UserError
from recipes.batch_size import BatchSizes


class TrainLoader(StreamingDataLoader):
    """A StreamingDataLoader that joins batches of the size that is due out of the smallest ones.

    The dataset deals its sequences out to ranks and workers one after the other, so the same sequences come in the same
    order, however they are cut. Where their number does not divide, it gives ranks some of the last ones twice, and so
    on some numbers of ranks a batch more; that one is left out here (``drop_last``), for epochs must be as long on any.
    The loader runs ahead of the Trainer, so it counts for itself what it has handed out.

    Before each batch the Trainer has all ranks agree whether they have one, and ends the epoch on all of them when one
    has none. So a rank that must not go on ends its loader, at no cost to any batch, and
    :class:`recipes.callbacks.end_together.EndTogether` tells why.

    Args:
        sizes: sequences of each batch, over all ranks.
        samples: sequences of an epoch, over all ranks.
        arguments: StreamingDataLoader's. ``batch_size`` is this rank's part of the smallest batch.

    Attributes:
        next_sample: sequences of the run, over all ranks, before the next batch.
        epoch_began: ``next_sample`` at the first batch of this epoch.
        leave_out: ranges of sequences, in whole batches, that are not handed out.
        left_out: the batches, and their sequences, that were left out just before the last batch or the end.
        end_asked: whether to end before the next batch.
        fault: what is wrong with the data, when it ended for that.
        waited: seconds from the request of the last batch to its arrival. Only the loader can tell: between the
            Trainer's events before and after it lies the agreement, which gives every rank the wait of the slowest.
        arrived: ``time.perf_counter()`` at its arrival.
    """

    def __init__(self, sizes: BatchSizes, samples: int, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.sizes, self.samples = sizes, samples
        self.next_sample = self.epoch_began = 0
        self.leave_out: list[tuple[int, int]] = []
        self.left_out = (0, 0)
        self.end_asked: Callable[[], bool] = lambda: False
        self.fault: UserError | None = None
        self.waited = self.arrived = 0.0

    def __iter__(self) -> Iterator[Any]:
        if self.fault is not None:
            raise self.fault  # nobody has told it
        units = super().__iter__()
        while not self.end_asked():
            batch = self._next_to_train(units)
            if batch is None:
                return
            yield batch

    def __len__(self) -> int:
        """The batches of this epoch, those that are left out included."""
        samples = self.samples if self.drop_last else super().__len__() * self.sizes.first
        return self.sizes.whole_batches(self.epoch_began, samples)

    def _next_to_train(self, units: Iterator[Any]) -> Any | None:
        self.left_out = (0, 0)
        while True:
            before = self.next_sample
            batch = self._next_batch(units)
            if batch is None or not any(begin <= before < end for begin, end in self.leave_out):
                return batch
            batches, samples = self.left_out
            self.left_out = (batches + 1, samples + self.next_sample - before)

    def _next_batch(self, units: Iterator[Any]) -> Any | None:
        """None at the end of the epoch, which may come within a batch, and at a fault."""
        asked = time.perf_counter()
        size = self.sizes.at(self.next_sample)
        is_over = self.drop_last and self.next_sample + size > self.epoch_began + self.samples
        try:
            joined = list(units if is_over else islice(units, size // self.sizes.first))
        except UserError as error:
            self.fault = error
            return None
        if is_over or len(joined) * self.sizes.first < size:
            return None
        whole = joined[0] if len(joined) == 1 else {key: np.concatenate([u[key] for u in joined]) for key in joined[0]}
        self.next_sample += samples_of(whole)  # without drop_last the epoch's last one may be smaller
        self.arrived = time.perf_counter()
        self.waited = self.arrived - asked
        return whole


def samples_of(batch: Any) -> int:
    """Sequences of a batch, over all ranks."""
    return dist.get_world_size() * len(batch["input_ids"])
