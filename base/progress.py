"""One line of progress with rate and time left on a terminal; a plain log line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from base.masking import without_secrets

PLAIN_LOG_SECONDS = 10.0


def say(message: str) -> None:
    """Print one line of status on standard error, at once and without secrets."""
    print(without_secrets(message), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """``90061`` → ``1d01h``, ``3725`` → ``1h02m``, ``65`` → ``1m05s``, ``4.2`` → ``4s``."""
    whole = round(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    if whole >= 60:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole}s"


def count(number: float) -> str:
    """``1234567`` → ``1.23M``: three significant digits."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{suffix}"
    return f"{number:.3g}"


class Meter:
    """What has been done since when, as a line of text."""

    def __init__(self, label: str, total: int | None, unit: str):
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.start = time.monotonic()

    def line(self) -> str:
        """``parse: 1.2k/3.4k records (35 %), 800 records/s, 3s left``"""
        seconds = max(time.monotonic() - self.start, 1e-9)
        rate = self.done / seconds
        text = f"{self.label}: {count(self.done)}"
        if self.total is not None:
            text += f"/{count(self.total)} {self.unit} ({100 * self.done / max(self.total, 1):.0f} %)"
        else:
            text += f" {self.unit}"
        text += f", {count(rate)} {self.unit}/s"
        if self.total is not None and rate > 0 and self.done < self.total:
            return f"{text}, {duration((self.total - self.done) / rate)} left"
        return f"{text}, {duration(seconds)}"


@contextmanager
def progress(label: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Show the progress of ``total`` units of work (None when not known); yields ``advance(n)``."""
    meter = Meter(label, total, unit)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(stderr=True), get_renderable=meter.line, refresh_per_second=5):

            def advance(n: int = 1) -> None:
                meter.done += n

            yield advance
        return
    last_shown = meter.start

    def advance_plain(n: int = 1) -> None:
        nonlocal last_shown
        meter.done += n
        if time.monotonic() - last_shown >= PLAIN_LOG_SECONDS:
            last_shown = time.monotonic()
            say(meter.line())

    try:
        yield advance_plain
    finally:
        if total != 0:
            say(meter.line())
