"""Processes on this machine."""

import ctypes
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from base.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
PR_SET_PDEATHSIG = 1
AHEAD = 4  # tasks given out for each worker, so that none waits for the next


class LocalProcesses:
    """Processes on this machine, started once for all stages; with one worker, or one task, this very process."""

    def __init__(self, workers: int):
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], at_most: int | None = None
    ) -> Iterator[tuple[int, R]]:
        """See :class:`data_prep.executors.executor.Executor`."""
        limit = min(self.workers, len(tasks), at_most or self.workers)
        if limit <= 1:
            for index, task in enumerate(tasks):
                yield index, function(task)
            return
        pool = self._started()
        window = AHEAD * limit if limit == self.workers else limit
        running: dict[Future[R], int] = {}
        left = iter(enumerate(tasks))
        try:
            while True:
                while len(running) < window and (following := next(left, None)) is not None:
                    running[pool.submit(function, following[1])] = following[0]
                if not running:
                    return
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield running.pop(future), future.result()
        except BrokenProcessPool:
            self._pool = None
            raise UserError(
                "a worker process was killed from outside, most often for want of memory; "
                "give executor.workers a smaller number and run the same command again"
            ) from None
        finally:
            for future in running:
                future.cancel()
            wait(running)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # "spawn": a fork would copy the locks of the threads that pyarrow, boto3 and tokenizers keep.
            context: Any = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        return self._pool

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _start_worker() -> None:
    # A worker must not outlive a parent that was killed: it would go on writing beside the next run.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends the pool
