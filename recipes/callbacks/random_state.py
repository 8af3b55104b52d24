"""Composer 0.32.1 does not restore the random state when it resumes in the middle of an epoch. This does."""

from typing import Any

from composer import Callback, Logger, State
from composer.utils import reproducibility


class RestoreRandomState(Callback):
    """Put the checkpoint's random state back where the uninterrupted run had it.

    That is before the first batch after the resume. Where an epoch begins in between, it is before that epoch: an
    iterator of the loader draws a number when it is made, as it did then. The iterator of persistent workers is made
    once a run, and in the uninterrupted one that was long before.

    ``saved`` is Composer's list with one state a rank; the caller sets it once the Trainer has loaded a checkpoint.
    """

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] | None = None

    def epoch_start(self, state: State, logger: Logger) -> None:
        if not state.dataloader.persistent_workers:
            self._restore()

    def batch_start(self, state: State, logger: Logger) -> None:
        self._restore()

    def _restore(self) -> None:
        if self.saved is not None:
            reproducibility.load_rng_state(self.saved)
            self.saved = None
