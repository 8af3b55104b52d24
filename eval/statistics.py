"""What stands beside an accuracy, so that it can be read."""

from collections.abc import Sequence
from math import sqrt

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson_interval(correct: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Two-sided interval (95 %, unless told) of a share, as fractions; (0, 1) when nothing was counted.

    Source: Wilson 1927. The normal approximation is poor at the n = 100 of a medical MMLU subset.
    """
    if not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n}")
    if n == 0:
        return 0.0, 1.0
    share = correct / n
    centre = share + z * z / (2 * n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))


def histogram(positions: Sequence[int | None], options: int) -> list[int]:
    """How often each option position (0 is the first) occurs; None is not counted."""
    return [sum(position == option for position in positions) for option in range(options)]


def majority_baseline(golds: Sequence[int], n: int) -> float:
    """The score of always answering with the most frequent gold position, over the same ``n`` as the accuracy."""
    if n == 0:
        raise ValueError("no questions")
    return max((golds.count(position) for position in set(golds)), default=0) / n
