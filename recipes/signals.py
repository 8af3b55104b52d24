"""Being asked to end: SIGTERM from a scheduler, SIGUSR1 from Slurm or ``recipes.launch.run_on_node``."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from base.parent import signal_at_death_of_parent
from base.progress import say

ONE_REQUEST = 2.0  # seconds
ASKING = (signal.SIGTERM, signal.SIGUSR1)


class EndRequest:
    """Whether this rank has been asked to end.

    The first signal asks: the run ends after its batch, with a checkpoint. One that comes later ends the process at
    once; nothing that is half written counts, since every manifest comes last. So does SIGTERM from Composer's launcher
    after another rank has died: there is nobody left to finish the batch with. What comes within ONE_REQUEST seconds of
    the first is the same request: Slurm's SIGTERM reaches ranks, launcher and node script, each of which hands it on.

    Signals are seen by a thread, for the main one may be waiting for a GPU or for other ranks, where Python calls no
    handler.
    """

    def __init__(self) -> None:
        self.asked_at: float | None = None
        self.launcher = os.getppid()

    @property
    def asked(self) -> bool:
        return self.asked_at is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen for the length of the block, in the main thread."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = {number: signal.signal(number, _heed) for number in ASKING}
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=_forget)  # loader workers
        threading.Thread(target=self._listen, args=(reader,), name="signals", daemon=True).start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(writer)  # ends the thread

    def _listen(self, reader: int) -> None:
        while seen := os.read(reader, 1):
            if seen[0] not in ASKING:
                continue
            name = signal.Signals(seen[0]).name
            again = self.asked_at is not None and time.monotonic() - self.asked_at > ONE_REQUEST
            if again or self._another_rank_is_gone():
                say(f"{name}: ending at once")
                os._exit(128 + seen[0])
            if self.asked:
                continue
            self.asked_at = time.monotonic()
            if os.environ.get("LOCAL_RANK", "0") == "0":
                say(f"{name}: ending after this batch, with a checkpoint; once more ends at once")
        os.close(reader)

    def _another_rank_is_gone(self) -> bool:
        """Whether Composer's launcher lives and has fewer ranks than it started."""
        started = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if started == 1 or os.getppid() != self.launcher:
            return False
        try:
            ranks = psutil.Process(self.launcher).children()
            return sum(rank.status() != psutil.STATUS_ZOMBIE for rank in ranks) < started
        except psutil.NoSuchProcess:
            return False


def end_with_launcher() -> None:
    """Have this rank asked to end when Composer's launcher dies; it would train on, unseen, and keep the GPU.

    Before the run listens, and so has anything to save, the signal ends the process.
    """
    if "LOCAL_RANK" in os.environ:
        signal_at_death_of_parent(signal.SIGUSR1)


def _heed(number: int, frame: object) -> None:
    """Python tells the thread by the pipe; without a handler the signal would end the process."""


def _forget() -> None:
    signal.set_wakeup_fd(-1)
    for number in ASKING:
        if signal.getsignal(number) is _heed:
            signal.signal(number, signal.SIG_DFL)
