"""Averages over groups of tasks, in which macro and micro are told apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.results import Score
from eval.statistics import mean_interval, wilson_interval


@dataclass(frozen=True)
class Average:
    """The primary accuracy over several protocols.

    Attributes:
        members: the protocols.
        macro: the plain mean of their scores, in which a subset of 100 questions counts as much as one of 4,183.
        macro_ci95: see :func:`eval.statistics.mean_interval`.
        micro: the share of all their questions together, which large ones decide.
        micro_ci95: Wilson's, of all questions as one set.
        n: all their questions, unscorable ones included, which are wrong.
        correct: those answered rightly.
    """

    members: tuple[str, ...]
    macro: float
    macro_ci95: tuple[float, float]
    micro: float
    micro_ci95: tuple[float, float]
    n: int
    correct: int


def averages(scores: Mapping[str, Score], groups: Mapping[str, Sequence[str]]) -> dict[str, Average]:
    """The averages of each group of which every task has a score in the same form with the same shots.

    A group of which a part is missing has none: it would be taken for the whole.

    Args:
        scores: by protocol (``mmlu_anatomy_letter_5shot``).
        groups: name → tasks (``mmlu_medical`` → ``mmlu_anatomy``, …). The average is named as the protocols are:
            ``mmlu_medical_letter_5shot``.
    """
    suffixes = list(dict.fromkeys(protocol.removeprefix(score.task) for protocol, score in scores.items()))
    found = {}
    for group, tasks in groups.items():
        for suffix in suffixes:
            members = tuple(f"{task}{suffix}" for task in tasks)
            if all(member in scores for member in members):
                found[f"{group}{suffix}"] = _average(members, scores)
    return found


def _average(members: tuple[str, ...], scores: Mapping[str, Score]) -> Average:
    parts = [(round(scores[member].primary * scores[member].n), scores[member].n) for member in members]
    correct, n = (sum(column) for column in zip(*parts, strict=True))
    return Average(
        members=members,
        macro=sum(right / of for right, of in parts) / len(parts),
        macro_ci95=mean_interval(parts),
        micro=correct / n,
        micro_ci95=wilson_interval(correct, n),
        n=n,
        correct=correct,
    )
