"""From the options' likelihoods to a score, and the two files that hold it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from base import storage
from eval.prompts import Encoded, Prepared
from eval.statistics import (
    brier_score,
    expected_calibration_error,
    histogram,
    macro_f1,
    majority_baseline,
    softmax,
    wilson_interval,
)
from eval.task import ACC, ACC_BYTES, ACC_NORM, ACC_PMI, ACC_TOKEN, METRICS, Item

Likelihoods = Mapping[str, tuple[float, ...]]
"""The natural log-likelihood of each option, by the question's id."""


@dataclass(frozen=True)
class ItemScore:
    """One line of ``NAME.items.jsonl``.

    Attributes:
        task, id, prompt_hash: which question of which protocol, asked how.
        subject: None where the data set has none.
        log_likelihoods: of each option, natural logarithm; None when the question could not be scored.
        without_question: the same after no question; None when not asked for.
        characters, bytes, tokens: length of each answer, without the space before it (which its tokens do hold).
        predictions: for each accuracy, the option that it takes for the answer, counted from 0; the first of equals.
        prediction: the one of the protocol's primary accuracy.
        gold: the right option; None for a row of the file that was refused.
        shots_left_out, passages_left_out: so that the question fits.
        reason: why it could not be scored.
    """

    task: str
    id: str
    prompt_hash: str
    subject: str | None
    log_likelihoods: tuple[float, ...] | None
    without_question: tuple[float, ...] | None
    characters: tuple[int, ...] | None
    bytes: tuple[int, ...] | None
    tokens: tuple[int, ...] | None
    predictions: dict[str, int] | None
    prediction: int | None
    gold: int | None
    shots_left_out: int
    passages_left_out: int
    reason: str | None

    def is_right(self, metric: str) -> bool:
        """Whether it was answered rightly by this accuracy; what could not be scored was not."""
        return self.predictions is not None and self.predictions[metric] == self.gold


@dataclass(frozen=True)
class Subject:
    """The primary accuracy among the questions of one subject."""

    n: int
    correct: int
    ci95: tuple[float, float]


@dataclass(frozen=True)
class Score:
    """One protocol's score. Shares are fractions of ``n``, in which what could not be scored counts as wrong.

    Attributes:
        task, form, shots, version: the protocol.
        metric: which of the accuracies is the primary one.
        acc, acc_norm, acc_bytes, acc_token, acc_pmi: see :data:`eval.task.METRICS`; acc_pmi is None when not asked for.
        ci95: the Wilson interval of acc; ``intervals`` has that of each.
        n: questions asked for, refused rows included.
        scored: those that were scored.
        majority: the score of always answering with the most frequent gold position.
        macro_f1: of the primary accuracy, where every question has the same options; else None.
        ece, brier: calibration of the softmax over the options' summed log-likelihoods, of what was scored; None when
            nothing was. See :mod:`eval.statistics`.
        gold, predicted: how often each position is right, and is answered by each accuracy.
        subjects: the primary accuracy by subject.
        bad_rows, too_long: refused rows of the file, and questions that do not fit, among the ``n``.
        fewer_shots, fewer_passages: questions from which some were left out.
        unscorable: all that could not be scored, with the reason.
        files, release, rows_in_file: what was read (path below the data folder → SHA-256), and what it is known as.
        question_hash, prompt_hash: see :func:`eval.prompts.question_hash` and :func:`eval.prompts.prompt_hash`.
    """

    task: str
    form: str
    shots: int
    version: int
    metric: str
    acc: float
    acc_norm: float
    acc_bytes: float
    acc_token: float
    acc_pmi: float | None
    ci95: tuple[float, float]
    intervals: dict[str, tuple[float, float]]
    n: int
    scored: int
    majority: float
    macro_f1: float | None
    ece: float | None
    brier: float | None
    gold: list[int]
    predicted: dict[str, list[int]]
    subjects: dict[str, Subject]
    bad_rows: int
    too_long: int
    fewer_shots: int
    fewer_passages: int
    unscorable: list[dict[str, str]]
    files: dict[str, str]
    release: str
    rows_in_file: int
    question_hash: str
    prompt_hash: str
    notes: str

    @property
    def primary(self) -> float:
        """The primary accuracy."""
        return getattr(self, self.metric)


def score_of(
    prepared: Prepared, log_likelihoods: Likelihoods, without_question: Mapping[str, float] | None = None
) -> tuple[Score, list[ItemScore]]:
    """The score of a protocol and its items.

    A question whose log-likelihoods are not finite (a model that has diverged) is unscorable.

    Args:
        log_likelihoods: of all encoded questions.
        without_question: of each answer in ``prepared.without_question``; None when it was not asked for.
    """
    questions = prepared.questions
    protocol, task = questions.protocol, questions.protocol.task
    alone = without_question if prepared.without_question else None
    encoded = {one.id: one for one in prepared.encoded}
    items = [
        _item_score(prepared, item, encoded.get(item.id), log_likelihoods.get(item.id), alone)
        for item in questions.items
    ]
    items += [_not_scored(prepared, refused.id, None, refused.reason) for refused in questions.refused]
    n = len(items)
    metrics = [metric for metric in METRICS if metric != ACC_PMI or alone is not None]
    correct = {metric: sum(item.is_right(metric) for item in items) for metric in metrics}
    intervals = {metric: wilson_interval(right, n) for metric, right in correct.items()}
    share = {metric: right / n for metric, right in correct.items()}
    metric = protocol.form.metric
    scored = [item for item in items if item.log_likelihoods is not None and item.gold is not None]
    probabilities = [softmax(item.log_likelihoods) for item in scored if item.log_likelihoods]
    golds = [item.gold for item in scored if item.gold is not None]
    all_golds = [item.gold for item in items if item.gold is not None]
    options = max(len(item.options) for item in questions.items) if questions.items else 0
    score = Score(
        task=task.name,
        form=protocol.form_name,
        shots=protocol.shots,
        version=task.version,
        metric=metric,
        acc=share[ACC],
        acc_norm=share[ACC_NORM],
        acc_bytes=share[ACC_BYTES],
        acc_token=share[ACC_TOKEN],
        acc_pmi=share.get(ACC_PMI),
        ci95=intervals[ACC],
        intervals=intervals,
        n=n,
        scored=len(scored),
        majority=majority_baseline(all_golds, n),
        macro_f1=macro_f1([(item.gold, item.prediction) for item in items], options) if task.fixed_options else None,
        ece=expected_calibration_error(probabilities, golds) if scored else None,
        brier=brier_score(probabilities, golds) if scored else None,
        gold=histogram(all_golds, options),
        predicted={
            one: histogram([item.predictions[one] if item.predictions else None for item in items], options)
            for one in metrics
        },
        subjects=_subjects(items, metric),
        bad_rows=len(questions.refused),
        too_long=prepared.too_long,
        fewer_shots=sum(item.shots_left_out > 0 for item in items),
        fewer_passages=sum(item.passages_left_out > 0 for item in items),
        unscorable=[{"id": item.id, "reason": item.reason} for item in items if item.reason is not None],
        files=questions.sha256,
        release=questions.known_as(),
        rows_in_file=questions.rows_in_file,
        question_hash=prepared.question_hash,
        prompt_hash=prepared.prompt_hash,
        notes=task.notes,
    )
    return score, items


def write_results(
    folder: str, name: str, scores: Mapping[str, Score], items: list[ItemScore], about: Mapping[str, Any]
) -> None:
    """Write ``NAME.items.jsonl``, then ``NAME.json`` with ``about`` and the scores, into ``folder`` (local or s3://).

    Each file is there whole or not at all, and the second only after the first.
    """
    lines = "".join(json.dumps(asdict(item), ensure_ascii=False, allow_nan=False) + "\n" for item in items)
    storage.write_bytes(storage.join(folder, f"{name}.items.jsonl"), lines.encode())
    record = {"name": name, **about, "scores": {task: asdict(score) for task, score in scores.items()}}
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    storage.write_bytes(storage.join(folder, f"{name}.json"), text.encode())


def _item_score(
    prepared: Prepared,
    item: Item,
    encoded: Encoded | None,
    values: tuple[float, ...] | None,
    alone: Mapping[str, float] | None,
) -> ItemScore:
    reason = prepared.unscorable.get(item.id)
    if reason is not None:
        return _not_scored(prepared, item.id, item, reason)
    if values is None or encoded is None:
        raise ValueError(f"{prepared.name}: question {item.id} was scored by no rank")
    texts = prepared.answers(item)
    without = tuple(alone[text] for text in texts) if alone is not None else None
    if not all(map(isfinite, (*values, *(without or ())))):
        return _not_scored(prepared, item.id, item, "the model's log-likelihoods are not finite")
    lengths = {
        ACC: (1,) * len(texts),
        ACC_NORM: tuple(map(len, texts)),
        ACC_BYTES: tuple(len(text.encode()) for text in texts),
        ACC_TOKEN: tuple(map(len, encoded.options)),
    }
    worth = {metric: [v / n for v, n in zip(values, lengths[metric], strict=True)] for metric in lengths}
    if without is not None:
        worth[ACC_PMI] = [value - of_text for value, of_text in zip(values, without, strict=True)]
    predictions = {metric: of_options.index(max(of_options)) for metric, of_options in worth.items()}
    return ItemScore(
        task=prepared.name,
        id=item.id,
        prompt_hash=prepared.prompt_hash,
        subject=item.subject,
        log_likelihoods=values,
        without_question=without,
        characters=lengths[ACC_NORM],
        bytes=lengths[ACC_BYTES],
        tokens=lengths[ACC_TOKEN],
        predictions=predictions,
        prediction=predictions[prepared.questions.protocol.form.metric],
        gold=item.gold,
        shots_left_out=encoded.cut.shots,
        passages_left_out=encoded.cut.passages,
        reason=None,
    )


def _not_scored(prepared: Prepared, id: str, item: Item | None, reason: str) -> ItemScore:
    """``item`` is None for a row of the file that was refused."""
    return ItemScore(
        task=prepared.name,
        id=id,
        prompt_hash=prepared.prompt_hash,
        subject=item.subject if item else None,
        log_likelihoods=None,
        without_question=None,
        characters=None,
        bytes=None,
        tokens=None,
        predictions=None,
        prediction=None,
        gold=item.gold if item else None,
        shots_left_out=0,
        passages_left_out=0,
        reason=reason,
    )


def _subjects(items: list[ItemScore], metric: str) -> dict[str, Subject]:
    found: dict[str, Subject] = {}
    for name in sorted({item.subject for item in items if item.subject is not None}):
        of_subject = [item for item in items if item.subject == name]
        correct = sum(item.is_right(metric) for item in of_subject)
        found[name] = Subject(len(of_subject), correct, wilson_interval(correct, len(of_subject)))
    return found
