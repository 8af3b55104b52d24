"""Asking a server again: after how long a pause, and how often."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from base.errors import UserError

T = TypeVar("T")
LONGEST_PAUSE = 60.0  # seconds, of our own doubling
LONGEST_ASKED = 600.0  # seconds, when the server says how long


class Transient(Exception):
    """What may go well the next time.

    Attributes:
        retry_after: the header of that name as the server sent it: seconds or a date.
    """

    def __init__(self, reason: str, retry_after: str | None = None):
        super().__init__(reason)
        self.retry_after = retry_after


class Stopped(Exception):
    """Another request has failed for good, so this one is no longer wanted."""


def insist(
    attempt: Callable[[], T], place: str, attempts: int, first_pause: float, remedy: str, stop: threading.Event,
    tell: Callable[[str], None],
) -> T:  # fmt: skip
    """Call ``attempt`` until it raises no :class:`Transient`, waiting longer each time, or as long as the server asks.

    Args:
        first_pause: seconds before the second attempt; doubled for each further one, and spread by chance, so that
            connections that were turned away together do not come back together.
        stop: ends the waiting.
        tell: is given a line for each failed attempt that will be followed by another.

    Raises:
        UserError: after so many attempts; says what went wrong last, and the remedy.
        Stopped: ``stop`` was set.
    """
    for number in range(1, attempts + 1):
        if stop.is_set():
            raise Stopped(place)
        try:
            return attempt()
        except Transient as trouble:
            if number == attempts:
                raise UserError(f"{place}: {trouble} (tried {attempts} times); {remedy}") from None
            pause = _asked(trouble.retry_after)
            if pause is None:
                pause = min(first_pause * 2 ** (number - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.5)
            tell(f"{place}: {trouble}; attempt {number + 1} of {attempts} in {pause:.1f} s")
            stop.wait(pause)
    raise AssertionError("attempts is at least 1")


def _asked(header: str | None) -> float | None:
    """Seconds to wait by a ``Retry-After`` header, which holds seconds or a date (RFC 9110, 10.2.3)."""
    if not header:
        return None
    if header.strip().isdigit():
        return min(float(header), LONGEST_ASKED)
    try:
        then = parsedate_to_datetime(header)
    except ValueError:
        return None
    if then.tzinfo is None:  # "-0000": the time is UTC all the same
        then = then.replace(tzinfo=UTC)
    return min(max((then - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_ASKED)
