"""Python's garbage collection at batches that all ranks agree on."""

import gc
import time

from composer import Callback, Logger, State

WARM_UP = 2  # batches after which what will live as long as the run is there


class ScheduledGC(Callback):
    """Collect every ``batch_interval`` batches on all ranks at once, and at no other time.

    Left to itself each rank collects when its own count of objects says so, and in each step the others wait for the
    one that does. What is there after the first batches (modules, compiled code) is taken out of all later collections.

    Logs ``time/gc``, the seconds that a collection took on rank 0.
    """

    def __init__(self, batch_interval: int):
        self.batch_interval = batch_interval
        self.batches = 0

    def fit_start(self, state: State, logger: Logger) -> None:
        gc.disable()

    def batch_end(self, state: State, logger: Logger) -> None:
        self.batches += 1
        if self.batches != WARM_UP and state.timestamp.batch.value % self.batch_interval:
            return
        start = time.perf_counter()
        gc.collect()
        if self.batches == WARM_UP:
            gc.freeze()
        logger.log_metrics({"time/gc": time.perf_counter() - start})

    def fit_end(self, state: State, logger: Logger) -> None:
        gc.unfreeze()
        gc.enable()
