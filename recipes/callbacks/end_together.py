"""What ends a run early, on all ranks at the same batch: a fault in the data or of a save, or somebody who asks."""

from contextlib import suppress

from composer import Callback, Logger, State
from composer.utils import dist

from base.errors import StartAgain, UserError
from recipes.callbacks.save_checkpoints import SaveCheckpoints
from recipes.signals import EndRequest
from recipes.together import together
from recipes.train_loader import TrainLoader


class EndTogether(Callback):
    """Tells why a loader has ended the epoch on all ranks (see :class:`recipes.train_loader.TrainLoader`).

    Args:
        request: of this rank; when any rank's was asked to end, the run saves and ends.
        checkpoints: with what; None where none are written.
    """

    def __init__(self, request: EndRequest, checkpoints: SaveCheckpoints | None):
        self.request, self.checkpoints = request, checkpoints

    def fit_start(self, state: State, logger: Logger) -> None:
        assert isinstance(state.dataloader, TrainLoader)
        saves = self.checkpoints
        state.dataloader.end_asked = lambda: self.request.asked or (saves is not None and saves.has_failed())

    def epoch_end(self, state: State, logger: Logger) -> None:
        """Raises UserError, or StartAgain once the checkpoint is whole, on every rank."""

        def tell() -> None:
            assert isinstance(state.dataloader, TrainLoader)
            if state.dataloader.fault is not None:
                raise state.dataloader.fault
            if self.checkpoints is not None and self.checkpoints.has_failed():
                self.checkpoints.wait_for_upload()  # raises

        try:
            together(tell)
        except UserError:
            if self.checkpoints is not None:
                with suppress(UserError):  # that fault was the first
                    self.checkpoints.finish_upload()
            raise
        assert state.max_duration is not None and state.previous_timestamp is not None
        if state.previous_timestamp >= state.max_duration or not any(dist.all_gather_object(self.request.asked)):
            return
        batch = state.timestamp.batch.value
        if self.checkpoints is None:
            raise UserError(f"asked to end, after batch {batch}; without save_folder nothing is kept", shared=True)
        state.timestamp = state.previous_timestamp  # Composer takes the epoch for done
        self.checkpoints.save(state, logger)
        self.checkpoints.finish_upload()
        raise StartAgain(f"asked to end, after batch {batch}; its checkpoint is whole")
