"""Processes on this machine."""

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import util
from pathlib import Path
from typing import Any, TypeVar

from base.errors import UserError
from base.parent import signal_at_death_of_parent
from data_prep.executors.attempt import Outcome, attempt

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 4  # tasks given out for each worker, so that none waits for the next
# New lists, dicts and the like before Python looks for cycles among them; tasks make next to none. With 700,
# as Python has it, it goes through the 300,000 objects of the libraries too, a tenth of a second each time.
COLLECT_AFTER = 100_000
KILLED = (
    "a worker process was killed from outside, most often for want of memory; "
    "give executor.workers a smaller number and run the same command again"
)


class LocalProcesses:
    """Processes on this machine, started once for all stages; with one worker, or one task, this very process.

    Args:
        workers: so many processes; None for one on each CPU that this process may use.
    """

    def __init__(self, workers: int | None):
        self.workers = workers or cpus_here()
        self._pool: ProcessPoolExecutor | None = None
        if self.workers == 1:  # this process is the worker
            prepare_for_tasks()

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], at_most: int | None = None
    ) -> Iterator[tuple[int, R]]:
        """See :class:`data_prep.executors.executor.Executor`."""
        limit = min(self.workers, len(tasks), at_most or self.workers)
        if limit <= 1:
            for index, task in enumerate(tasks):
                yield index, function(task)
            return
        window = AHEAD * limit if limit == self.workers else limit
        running: dict[Future[Outcome[R]], int] = {}
        left = iter(enumerate(tasks))
        try:
            while True:
                while len(running) < window and (following := next(left, None)) is not None:
                    running[self.submit(function, following[1])] = following[0]
                if not running:
                    return
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield running.pop(future), self.outcome(future).get()
        finally:
            if running:
                self.close()  # cancels too; futures that are cancelled here while a pool breaks may never be done

    def submit(self, function: Callable[[T], R], task: T) -> "Future[Outcome[R]]":
        """Give a task to the processes. What the future holds is read with :meth:`outcome`.

        Raises:
            UserError: a process was killed.
        """
        if self._pool is None:
            # "spawn": a fork would copy the locks of the threads that pyarrow, boto3 and tokenizers keep.
            context: Any = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)
        try:
            with _interrupts_held():
                return self._pool.submit(attempt, function, task)
        except BrokenProcessPool:
            self.close()
            raise UserError(KILLED) from None

    def outcome(self, future: "Future[Outcome[R]]") -> Outcome[R]:
        """What came of an ended future."""
        try:
            return future.result()
        except BrokenProcessPool:
            self.close()
            return Outcome(None, UserError(KILLED))

    def kill(self) -> None:
        """End the processes at once, in the middle of their tasks."""
        for process in multiprocessing.active_children():
            process.kill()
        self.close()

    def close(self) -> None:
        """End the processes, when the tasks that they are at have ended."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def cpus_here() -> int:
    """CPUs that this process may use, at least 1: by its affinity (as Slurm sets it) and by the limit of its cgroup
    (as Kubernetes and Docker set it)."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus
    return cpus if quota == "max" else max(1, min(cpus, int(quota) // int(period)))


def prepare_for_tasks() -> None:
    """Have this process work as tasks want it, before they come: with one thread, for libraries count the CPUs once and
    would take those of the other workers; and with a collector of garbage that comes seldom."""
    os.environ |= {
        "TOKENIZERS_PARALLELISM": "false",
        "RAYON_NUM_THREADS": "1",  # tokenizers, rensa, gigatoken
        "OMP_NUM_THREADS": "1",  # numpy's BLAS
    }
    import pyarrow

    pyarrow.set_cpu_count(1)
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C comes when the block has ended. Workers that start in it never see one, for they inherit that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    # A worker must not outlive a parent that was killed: it would go on writing beside the next run.
    signal_at_death_of_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends the pool
    prepare_for_tasks()
    util.Finalize(None, _leave, exitpriority=-1)  # after what multiprocessing itself has to do


def _leave() -> None:
    """End a worker that has come to its end well, without Python's tidying up: that takes half a second with all the
    libraries that a worker has loaded, and the whole run waits for it. All that a worker writes is in place already."""
    if sys.exc_info()[0] is None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
