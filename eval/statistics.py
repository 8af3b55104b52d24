"""What stands beside a score, so that it can be read. Two models on the same questions: ``eval/paired.py``."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, sqrt

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
    # Rounding must not put the limits beside the share that they are of: 0 of n and n of n.
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return max(0.0, min(low, share)), min(1.0, max(high, share))


def mean_interval(parts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """95 % interval of the plain mean of the shares of several (correct, n), each with at least one question.

    The distances of each share to its Wilson limits are added as variances would be (Zou, Huang and Zhang 2009), so
    that shares near 0 and 1 keep a width. Of one share it is the Wilson interval. It is that of these tasks, for other
    questions of each; it says nothing about other tasks.
    """
    shares = [correct / n for correct, n in parts]
    limits = [wilson_interval(correct, n) for correct, n in parts]
    below = sqrt(sum((share - low) ** 2 for share, (low, _) in zip(shares, limits, strict=True)))
    above = sqrt(sum((high - share) ** 2 for share, (_, high) in zip(shares, limits, strict=True)))
    mean = sum(shares) / len(parts)
    return mean - below / len(parts), mean + above / len(parts)


def difference_interval(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """95 % interval of the first share less the second, of (correct, n) each, of two sets of different questions.

    Source: Newcombe 1998, method 10, from the Wilson limits. Two models on the same questions differ by much less than
    it says: for those see :func:`eval.paired.paired_bootstrap`.
    """
    (low, high), (other_low, other_high) = wilson_interval(*first), wilson_interval(*second)
    share, other = first[0] / first[1], second[0] / second[1]
    below, above = (
        sqrt((share - low) ** 2 + (other_high - other) ** 2),
        sqrt((high - share) ** 2 + (other - other_low) ** 2),
    )
    return share - other - below, share - other + above


def histogram(positions: Sequence[int | None], options: int) -> list[int]:
    """How often each option position (0 is the first) occurs; None is not counted."""
    return [sum(position == option for position in positions) for option in range(options)]


def majority_baseline(golds: Sequence[int], n: int) -> float:
    """The score of always answering with the most frequent gold position, over the same ``n`` as the accuracy."""
    if n == 0:
        raise ValueError("no questions")
    return max((golds.count(position) for position in set(golds)), default=0) / n


def macro_f1(pairs: Sequence[tuple[int | None, int | None]], options: int) -> float:
    """The plain mean of the options' F1, of (gold, prediction) pairs, as scikit-learn's ``f1_score(average="macro")``.

    An option that is neither right nor answered anywhere has none and is left out. No prediction is a miss of its gold;
    a pair of two Nones, which a refused row is, counts for no option. 0 when no option has an F1.
    """
    scores = []
    for option in range(options):
        right = sum(gold == prediction == option for gold, prediction in pairs)
        named = sum((gold == option) + (prediction == option) for gold, prediction in pairs)
        if named:
            scores.append(2 * right / named)
    return sum(scores) / len(scores) if scores else 0.0


def softmax(log_likelihoods: Sequence[float]) -> tuple[float, ...]:
    """Log-likelihoods of the options (natural logarithm, finite) → their probabilities, if one of them must be it."""
    highest = max(log_likelihoods)
    shares = [exp(value - highest) for value in log_likelihoods]
    return tuple(share / sum(shares) for share in shares)


def brier_score(probabilities: Sequence[Sequence[float]], golds: Sequence[int]) -> float:
    """Mean over questions of the squared distance between the options' probabilities and 1 for the right one, else 0.

    From 0 (certain and right) to 2 (certain and wrong), as lm-eval's ``brier_score``; to say 1/k of each of k options
    gives 1 - 1/k. Brier 1950.
    """
    _require_questions(probabilities, golds)
    distances = [
        sum((probability - (option == gold)) ** 2 for option, probability in enumerate(options))
        for options, gold in zip(probabilities, golds, strict=True)
    ]
    return sum(distances) / len(distances)


@dataclass(frozen=True)
class CalibrationBin:
    """Questions with about the same confidence: how many, their mean probability, and the share answered rightly."""

    n: int
    probability: float
    accuracy: float


def calibration_bins(
    probabilities: Sequence[Sequence[float]], golds: Sequence[int], bins: int = 10
) -> list[CalibrationBin]:
    """Questions in the order of the probability of their likeliest option, cut into ``bins`` of the same size.

    The likeliest option is the answer. Bins differ by one question where the number cannot be divided, and by more
    where questions with equal probabilities would be parted: which of them comes first would be chance. Fewer questions
    than bins give a bin each.
    """
    _require_questions(probabilities, golds)
    answers = [max(range(len(options)), key=options.__getitem__) for options in probabilities]
    pairs = [
        (options[answer], answer == gold) for options, answer, gold in zip(probabilities, answers, golds, strict=True)
    ]
    pairs.sort()
    found, start = [], 0
    for number in range(1, bins + 1):
        end = max(start, round(number * len(pairs) / bins))
        while 0 < end < len(pairs) and pairs[end][0] == pairs[end - 1][0]:
            end += 1
        if end > start:
            part = pairs[start:end]
            confidence, right = sum(pair[0] for pair in part), sum(pair[1] for pair in part)
            found.append(CalibrationBin(len(part), confidence / len(part), right / len(part)))
        start = end
    return found


def expected_calibration_error(probabilities: Sequence[Sequence[float]], golds: Sequence[int], bins: int = 10) -> float:
    """Mean distance between confidence and accuracy in :func:`calibration_bins`, weighted by their sizes; from 0 to 1.

    Source: Naeini et al. 2015, with bins of equal size as Nixon et al. 2019. Under about 300 questions it is not to be
    relied on: bins of 30 questions miss their accuracy by chance alone, which makes a calibrated model look badly
    calibrated.
    """
    found = calibration_bins(probabilities, golds, bins)
    return sum(one.n * abs(one.accuracy - one.probability) for one in found) / len(golds)


def _require_questions(probabilities: Sequence[Sequence[float]], golds: Sequence[int]) -> None:
    if not probabilities or len(probabilities) != len(golds):
        raise ValueError(f"{len(probabilities)} questions with {len(golds)} golds")
    if not all(isfinite(probability) for options in probabilities for probability in options):
        raise ValueError("a probability is not finite")
