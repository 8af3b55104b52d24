"""Keeps the loader and the Trainer's counters at the same place in the data."""

from composer import Callback, Logger, State

from recipes.train_loader import TrainLoader, samples_of


class PlaceInData(Callback):
    """Tells the loader where the run begins or goes on, and counts the batches that it has left out as done.

    So the schedule and the place that a checkpoint holds are those of a run that has trained them. A save or an
    evaluation that was due within them does not happen, and the first batch after them has the rate of the one before:
    Composer steps its schedulers before it counts.
    Where batches grow, ``trainer/global_train_batch_size`` is logged.
    """

    def fit_start(self, state: State, logger: Logger) -> None:
        self._tell(state)

    def epoch_start(self, state: State, logger: Logger) -> None:
        self._tell(state)

    def after_dataloader(self, state: State, logger: Logger) -> None:
        batches, samples, tokens = _take_left_out(state)
        if batches:
            now = state.timestamp
            state.timestamp = now.copy(
                batch=now.batch + batches,
                batch_in_epoch=now.batch_in_epoch + batches,
                sample=now.sample + samples,
                sample_in_epoch=now.sample_in_epoch + samples,
                token=now.token + tokens,
                token_in_epoch=now.token_in_epoch + tokens,
            )
            logger.log_metrics({"guard/batches_left_out": batches})

    def batch_start(self, state: State, logger: Logger) -> None:
        loader = _loader(state)
        if loader.sizes.double_at:
            logger.log_metrics({"trainer/global_train_batch_size": samples_of(state.batch)})

    def epoch_end(self, state: State, logger: Logger) -> None:
        batches, samples, tokens = _take_left_out(state)  # its last ones: no batch came after them
        if batches:
            now = state.timestamp
            state.timestamp = now.copy(batch=now.batch + batches, sample=now.sample + samples, token=now.token + tokens)
            logger.log_metrics({"guard/batches_left_out": batches})

    def _tell(self, state: State) -> None:
        loader = _loader(state)
        loader.next_sample = state.timestamp.sample.value
        loader.epoch_began = loader.next_sample - state.timestamp.sample_in_epoch.value
        state.dataloader_len = -1  # len(loader): where batches grow, no epoch has as many as the one before


def _loader(state: State) -> TrainLoader:
    assert isinstance(state.dataloader, TrainLoader)
    return state.dataloader


def _take_left_out(state: State) -> tuple[int, int, int]:
    """Batches, sequences and tokens; once: a run may end with the epoch's last batch, before the loader knows."""
    loader = _loader(state)
    (batches, samples), loader.left_out = loader.left_out, (0, 0)
    return batches, samples, samples * state.model.config.max_seq_len
