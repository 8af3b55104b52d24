"""Batches that grow (``batch_size_warmup``): the loader that joins them, and what tells it where the run is."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from composer import Callback, Logger, State
from composer.utils import dist

from recipes.batch_size import BatchSizes
from recipes.callbacks.loader_wait import TimedLoader


class GrowingLoader(TimedLoader):
    """Joins batches of the size that is due out of the smallest ones.

    The dataset deals its sequences out to ranks and workers one after the other, so the same sequences come in the same
    order, however they are cut. The loader runs ahead of the Trainer, so it counts for itself what it has handed out.

    Args:
        sizes: sequences of each batch, over all ranks.
        arguments: StreamingDataLoader's. ``batch_size`` is this rank's part of the smallest batch.

    Attributes:
        trained: sequences, over all ranks, before the next batch.
        epoch_began: ``trained`` at the first batch of this epoch.
    """

    def __init__(self, sizes: BatchSizes, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.sizes = sizes
        self.trained = self.epoch_began = 0

    def __iter__(self) -> Iterator[Any]:
        units = super().__iter__()
        while True:
            size, waited, joined = self.sizes.at(self.trained), 0.0, []
            for unit in islice(units, size // self.sizes.first):
                waited += self.waited
                joined.append(unit)
            if len(joined) * self.sizes.first < size:
                return  # the end of the epoch, within a batch
            self.waited = waited
            self.trained += size
            yield {key: np.concatenate([unit[key] for unit in joined]) for key in joined[0]}

    def __len__(self) -> int:
        """The batches of this epoch."""
        return self.sizes.whole_batches(self.epoch_began, super().__len__() * self.sizes.first)


class BatchSizeWarmup(Callback):
    """Tells the loader where the run begins or goes on; logs ``trainer/global_train_batch_size``."""

    def fit_start(self, state: State, logger: Logger) -> None:
        self._tell(state)

    def epoch_start(self, state: State, logger: Logger) -> None:
        self._tell(state)

    def batch_start(self, state: State, logger: Logger) -> None:
        assert isinstance(state.dataloader, GrowingLoader)
        size = dist.get_world_size() * len(state.batch["input_ids"])
        logger.log_metrics({"trainer/global_train_batch_size": size})

    def _tell(self, state: State) -> None:
        loader = state.dataloader
        assert isinstance(loader, GrowingLoader)
        loader.trained = state.timestamp.sample.value
        loader.epoch_began = loader.trained - state.timestamp.sample_in_epoch.value
        state.dataloader_len = -1  # len(loader): no epoch has as many batches as the one before
