"""Two models on the same questions. What both answer alike says nothing of their difference, and drops out."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

DRAWS = 10_000
CELLS = 1 << 20  # numbers drawn at a time, of eight bytes each


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p of McNemar's test, from the discordant questions: those that one model alone answers rightly.

    The probability that, of so many questions, tossed coins give a split at least as uneven: P(X ≤ the smaller) of
    B(n, 1/2), twice, at most 1. In whole numbers, so no n is too large. Conservative where n is small: under six
    discordant questions nothing reaches 0.05.
    """
    if min(only_first, only_second) < 0:
        raise ValueError(f"{only_first} and {only_second} questions")
    n = only_first + only_second
    term = total = 1
    for right in range(1, min(only_first, only_second) + 1):
        term = term * (n - right + 1) // right  # n over right
        total += term
    return min(1.0, 2 * total / 2**n)


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, seed: int, draws: int = DRAWS, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of mean(second) - mean(first) over questions drawn anew, each with both models' values.

    Drawn is how often each different value of second - first comes up, which is the same distribution and of the size
    of three numbers for right and wrong. The same seed gives the same interval. Efron 1979; not to be relied on when
    fewer than about ten questions differ: where none does, it is one point.

    Args:
        first, second: [n], of the same questions in the same order: right or wrong, or any number.
        seed: of the draws.
    """
    difference = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if difference.ndim != 1 or not len(difference) or not np.isfinite(difference).all():
        raise ValueError(f"values of the shape {difference.shape}, or not finite: one of each question is needed")
    values, counts = np.unique(difference, return_counts=True)
    generator = np.random.default_rng(seed)
    at_once = max(1, CELLS // len(values))
    means = [
        generator.multinomial(len(difference), counts / len(difference), size=min(at_once, draws - done)) @ values
        for done in range(0, draws, at_once)
    ]
    low, high = np.quantile(np.concatenate(means) / len(difference), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def smallest_detectable_difference(n: int, discordant: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Which true difference of two accuracies would be found with this power at this two-sided level, as a fraction.

    (z(1 - alpha/2) + z(power)) × √(discordant / n): the normal approximation, as in Miller 2024 (arXiv 2411.00640). A
    little too large where the difference is nearly all of ``discordant``.

    Args:
        discordant: share of the ``n`` questions that one model alone answers rightly. Better taken from models like
            these than from a comparison that is itself in question.
    """
    if n < 1 or not 0 <= discordant <= 1:
        raise ValueError(f"{discordant} of {n} questions")
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * sqrt(discordant / n)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p values of several comparisons, adjusted: to take those up to q for differences makes q the expected share of
    false ones among them. Benjamini and Hochberg 1995; holds for comparisons that are independent or err together.
    """
    n = len(p_values)
    adjusted, smallest = [1.0] * n, 1.0
    for rank, place in sorted(enumerate(sorted(range(n), key=p_values.__getitem__), start=1), reverse=True):
        smallest = min(smallest, p_values[place] * n / rank)
        adjusted[place] = smallest
    return adjusted
