"""Scores on questions that the training corpus holds, beside those on questions that it does not.

What the corpus holds was found when it was made (``python -m data_prep`` with ``select.decontaminate.questions``) and
stands in ``OUT/contamination.json``: by benchmark and way, the ids of the items that were looked for and of those that
were found in a document that stayed. The ids are those of the evaluation. The ways: ``question``, a run of 13 words of
the question or of an option; ``context``, such a run of what it is asked about; ``pmid``, the abstract that it is made
from (PubMedQA, BioASQ). Three groups, for a question that nobody looked for is not unseen:

- ``seen``: found in any way;
- ``unseen``: looked for in one way at least, and found in none;
- ``unknown``: in no file that was searched for, too short to be searched for, or a refused row.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from base import storage
from base.errors import NotThere, UserError
from eval.results import ItemScore, Score
from eval.statistics import difference_interval, wilson_interval

SEARCH = "python -m data_prep YAML … select.decontaminate.questions=QA, which repeats the stages from select on"
Ids = frozenset[str]


@dataclass(frozen=True)
class Found:
    """Of one benchmark, by way: the ids of the items that were looked for, and that are in the corpus."""

    searched: dict[str, Ids]
    contaminated: dict[str, Ids]


@dataclass(frozen=True)
class Card:
    """What is known of a corpus: the file that tells it, that file's SHA-256, and what it tells by benchmark."""

    place: str
    sha256: str
    benchmarks: dict[str, Found]


@dataclass(frozen=True)
class Part:
    """A group of questions: how many, how many answered rightly, their share (None of none) and its Wilson interval."""

    n: int
    correct: int
    accuracy: float | None
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Groups:
    """The three groups, and what seen questions are answered better by than unseen ones.

    Attributes:
        difference: of the accuracies, seen less unseen; None where one of the groups is empty.
        ci95: of the difference, for two groups of different questions (:func:`eval.statistics.difference_interval`).
    """

    seen: Part
    unseen: Part
    unknown: Part
    difference: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Split:
    """One protocol's primary accuracy by what the corpus holds: in any way, and by each way alone.

    By one way alone, ``unseen`` is what was looked for in that way and not found in it, whatever another way says.
    """

    metric: str
    any: Groups
    question: Groups
    context: Groups
    pmid: Groups


WAYS = ("question", "context", "pmid")


def read_card(corpus: str) -> Card:
    """Read what is known of a corpus.

    Args:
        corpus: the folder OUT of data_prep, or its ``contamination.json`` or ``card.json``; local or s3://.

    Raises:
        UserError: there is none; questions were not searched for; or the list of those searched for is missing, as in
            cards of earlier versions, without which "not found" cannot be told from "not looked for".
    """
    place = corpus if corpus.endswith(".json") else _in_folder(corpus)
    content = storage.read_bytes(place)
    try:
        told = json.loads(content)
    except ValueError as error:
        raise UserError(f"{place}: not JSON: {error}") from None
    if isinstance(told, dict) and "contamination" in told:  # card.json
        told = told["contamination"]
        if told is None:
            raise UserError(f"{place}: questions were not searched for in this corpus; run {SEARCH}")
    if not isinstance(told, dict) or "by_benchmark" not in told:
        raise UserError(f"{place}: neither contamination.json nor card.json of data_prep")
    old = [name for name, one in told["by_benchmark"].items() if "searched" not in one]
    if old:
        raise UserError(
            f"{place}: does not list which questions of {', '.join(old)} were searched for, as earlier versions did "
            f"not; run {SEARCH}"
        )
    benchmarks = {
        name: Found(*({way: Ids(one[key][way]) for way in WAYS} for key in ("searched", "contaminated")))
        for name, one in told["by_benchmark"].items()
    }
    return Card(place, hashlib.sha256(content).hexdigest(), benchmarks)


def split(scores: Mapping[str, Score], items: Iterable[ItemScore], card: Card) -> dict[str, Any]:
    """The primary accuracies by what the corpus holds, as JSON: ``card``, ``sha256``, and ``scores``: protocol → Split.

    Args:
        scores: by protocol.
        items: of all of them; ``task`` is the protocol.
    """
    by_protocol: dict[str, list[ItemScore]] = {protocol: [] for protocol in scores}
    for item in items:
        by_protocol[item.task].append(item)
    return {
        "card": card.place,
        "sha256": card.sha256,
        "scores": {protocol: asdict(_split(scores[protocol], of, card)) for protocol, of in by_protocol.items()},
    }


def _in_folder(folder: str) -> str:
    place, card = (storage.join(folder, name) for name in ("contamination.json", "card.json"))
    if storage.exists(place):
        return place
    if storage.exists(card):
        return card  # which has no such section either, and says why
    raise NotThere(
        f"{folder}: neither contamination.json nor card.json is there; it must be the folder OUT of data_prep, made by "
        f"{SEARCH}"
    )


def _split(score: Score, items: list[ItemScore], card: Card) -> Split:
    right = {item.id: item.is_right(score.metric) for item in items}
    found = _benchmark_of(score.task, card)
    by_way = {way: _groups(right, found.searched[way], found.contaminated[way]) for way in WAYS}
    searched, contaminated = (Ids().union(*by.values()) for by in (found.searched, found.contaminated))
    return Split(score.metric, _groups(right, searched, contaminated), **by_way)


def _benchmark_of(task: str, card: Card) -> Found:
    """A task is called after its benchmark: ``mmlu_anatomy`` is of ``mmlu``. Of another one, nothing is known."""
    for name, found in card.benchmarks.items():
        if task == name or task.startswith(f"{name}_"):
            return found
    nothing = dict.fromkeys(WAYS, Ids())
    return Found(nothing, nothing)


def _groups(right: Mapping[str, bool], searched: Ids, contaminated: Ids) -> Groups:
    seen = _part([right[id] for id in right if id in contaminated])
    unseen = _part([right[id] for id in right if id in searched and id not in contaminated])
    unknown = _part([right[id] for id in right if id not in searched and id not in contaminated])
    if seen.accuracy is None or unseen.accuracy is None:
        return Groups(seen, unseen, unknown, None, None)
    interval = difference_interval((seen.correct, seen.n), (unseen.correct, unseen.n))
    return Groups(seen, unseen, unknown, seen.accuracy - unseen.accuracy, interval)


def _part(right: list[bool]) -> Part:
    correct, n = sum(right), len(right)
    return Part(n, correct, correct / n if n else None, wilson_interval(correct, n))
