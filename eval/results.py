"""From the options' likelihoods to a score, and the two files that hold it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from base import storage
from eval.prompts import Prepared
from eval.statistics import histogram, majority_baseline, wilson_interval
from eval.task import Item


@dataclass(frozen=True)
class ItemScore:
    """One line of ``NAME.items.jsonl``.

    Attributes:
        task, id, prompt_hash: which question of which task, asked how.
        log_likelihoods: of each option, natural logarithm; None when the question could not be scored.
        characters: length of each option, without the separator.
        prediction: the option with the highest log-likelihood, counted from 0; the first of equal ones.
        prediction_norm: the same, by log-likelihood per character.
        gold: the right option; None for a row of the file that was refused.
        reason: why it could not be scored.
    """

    task: str
    id: str
    prompt_hash: str
    log_likelihoods: tuple[float, ...] | None
    characters: tuple[int, ...] | None
    prediction: int | None
    prediction_norm: int | None
    gold: int | None
    reason: str | None


@dataclass(frozen=True)
class Score:
    """One task's score. Shares are fractions of ``n``, in which what could not be scored counts as wrong.

    Attributes:
        acc, ci95: lm-eval's ``acc`` (the option with the highest log-likelihood) and its Wilson interval.
        acc_norm, ci95_norm: lm-eval's ``acc_norm`` (the highest log-likelihood per character).
        n: questions asked for, refused rows included.
        scored: those that were scored.
        majority: the score of always answering with the most frequent gold position.
        gold, predicted, predicted_norm: how often each position is right, and is answered.
        bad_rows, too_long: refused rows of the file, and questions that do not fit, among the ``n``.
        unscorable: all that could not be scored, with the reason.
        file, file_sha256, rows_in_file, official_rows: what was read, and what the known releases hold.
    """

    task: str
    version: int
    acc: float
    acc_norm: float
    n: int
    majority: float
    ci95: tuple[float, float]
    ci95_norm: tuple[float, float]
    scored: int
    gold: list[int]
    predicted: list[int]
    predicted_norm: list[int]
    bad_rows: int
    too_long: int
    unscorable: list[dict[str, str]]
    file: str
    file_sha256: str
    rows_in_file: int
    official_rows: dict[str, int]
    prompt_hash: str
    notes: str


def score_of(prepared: Prepared, log_likelihoods: Mapping[str, tuple[float, ...]]) -> tuple[Score, list[ItemScore]]:
    """The score of a task and its items, from the log-likelihoods of all its encoded questions.

    A question whose log-likelihoods are not finite (a model that has diverged) is unscorable.
    """
    task = prepared.questions.task
    items = [_item_score(prepared, item, log_likelihoods.get(item.id)) for item in prepared.questions.items]
    items += [
        ItemScore(task.name, refused.id, prepared.prompt_hash, None, None, None, None, None, refused.reason)
        for refused in prepared.questions.refused
    ]
    n = len(items)
    correct = sum(item.prediction is not None and item.prediction == item.gold for item in items)
    correct_norm = sum(item.prediction_norm is not None and item.prediction_norm == item.gold for item in items)
    golds = [item.gold for item in items if item.gold is not None]
    options = max(len(item.options) for item in prepared.questions.items) if prepared.questions.items else 0
    score = Score(
        task=task.name,
        version=task.version,
        acc=correct / n,
        acc_norm=correct_norm / n,
        n=n,
        majority=majority_baseline(golds, n),
        ci95=wilson_interval(correct, n),
        ci95_norm=wilson_interval(correct_norm, n),
        scored=sum(item.prediction is not None for item in items),
        gold=histogram(golds, options),
        predicted=histogram([item.prediction for item in items], options),
        predicted_norm=histogram([item.prediction_norm for item in items], options),
        bad_rows=len(prepared.questions.refused),
        too_long=prepared.too_long,
        unscorable=[{"id": item.id, "reason": item.reason} for item in items if item.reason is not None],
        file=prepared.questions.file,
        file_sha256=prepared.questions.sha256,
        rows_in_file=prepared.questions.rows_in_file,
        official_rows=task.official_rows,
        prompt_hash=prepared.prompt_hash,
        notes=task.notes,
    )
    return score, items


def write_results(
    folder: str, name: str, scores: Mapping[str, Score], items: list[ItemScore], about: Mapping[str, Any]
) -> None:
    """Write ``NAME.items.jsonl`` and then ``NAME.json`` (``about`` and ``scores`` by task), local or s3://.

    Each appears whole or not at all, and the second only after the first.
    """
    lines = "".join(json.dumps(asdict(item), ensure_ascii=False, allow_nan=False) + "\n" for item in items)
    storage.write_bytes(storage.join(folder, f"{name}.items.jsonl"), lines.encode())
    record = {"name": name, **about, "scores": {task: asdict(score) for task, score in scores.items()}}
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    storage.write_bytes(storage.join(folder, f"{name}.json"), text.encode())


def _item_score(prepared: Prepared, item: Item, log_likelihoods: tuple[float, ...] | None) -> ItemScore:
    task, reason = prepared.questions.task.name, prepared.unscorable.get(item.id)
    if reason is None and log_likelihoods is None:
        raise ValueError(f"{task}: question {item.id} was scored by no rank")
    if reason is None and not all(map(isfinite, log_likelihoods or ())):
        reason = "the model's log-likelihoods are not finite"
    if reason is not None or log_likelihoods is None:
        return ItemScore(task, item.id, prepared.prompt_hash, None, None, None, None, item.gold, reason)
    characters = tuple(len(option) for option in item.options)
    per_character = [value / length for value, length in zip(log_likelihoods, characters, strict=True)]
    return ItemScore(
        task=task,
        id=item.id,
        prompt_hash=prepared.prompt_hash,
        log_likelihoods=log_likelihoods,
        characters=characters,
        prediction=log_likelihoods.index(max(log_likelihoods)),
        prediction_norm=per_character.index(max(per_character)),
        gold=item.gold,
        reason=None,
    )
