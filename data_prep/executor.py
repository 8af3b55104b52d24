"""Where tasks run. The stages know only this face, and an executor knows nothing of what it runs.

A task is a small description that can be pickled (paths and settings, never data); its function is a module-level one
that writes its own files and returns a small result.
"""

import ctypes
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol, TypeVar

from base.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
PR_SET_PDEATHSIG = 1


class Executor(Protocol):
    """Runs one function over many tasks."""

    workers: int

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], at_most: int | None = None
    ) -> Iterator[tuple[int, R]]:
        """Yield (index of the task, its result) as they end, in any order; ``at_most`` so many at a time.

        The first exception of a task ends everything and is raised here.
        """
        ...


class LocalProcesses:
    """Processes on this machine; with one worker, or one task, this very process."""

    def __init__(self, workers: int):
        self.workers = workers

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], at_most: int | None = None
    ) -> Iterator[tuple[int, R]]:
        workers = min(self.workers, len(tasks), at_most or self.workers)
        if workers <= 1:
            for index, task in enumerate(tasks):
                yield index, function(task)
            return
        # "spawn": a fork would copy the locks of the threads that pyarrow, boto3 and tokenizers keep.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
            futures = {pool.submit(function, task): index for index, task in enumerate(tasks)}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            except BrokenProcessPool:
                raise UserError(
                    "a worker process was killed from outside, most often for want of memory; "
                    "give executor.workers a smaller number and run the same command again"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    # A worker must not outlive a parent that was killed: it would go on writing beside the next run.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends the pool
