"""How long a start takes, from the process to the end of its first step, and which part of it what."""

import time

import psutil
from composer import Callback, Logger, State


class StartTimes(Callback):
    """Logs, at the first batch of a process, the seconds of each part as ``start/PART`` and of all as ``start/total``.

    The first part began with the process: Python, its imports, and the checks before training.
    """

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.began = self.last = psutil.Process().create_time()  # seconds, by the clock of time.time()

    def end_of(self, part: str) -> None:
        """Say that a part has just ended."""
        now = time.time()
        self.parts[part], self.last = now - self.last, now

    def batch_end(self, state: State, logger: Logger) -> None:
        if self.parts:
            self.end_of("first_step")
            total = {"start/total": self.last - self.began}
            logger.log_metrics(total | {f"start/{part}": seconds for part, seconds in self.parts.items()})
            self.parts = {}
