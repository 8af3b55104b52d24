"""Two result files, question by question: ``python -m eval compare A.json B.json``.

A comparison of two scores as if they came from different questions wastes what the same questions tell, and is not
offered.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from base import storage
from base.errors import UserError
from eval.compare_texts import compare_texts, lines_of
from eval.paired import (
    benjamini_hochberg,
    mcnemar_exact,
    paired_bootstrap,
    smallest_detectable_difference,
)
from eval.statistics import wilson_interval
from eval.task import METRICS

SEED = 17  # of the bootstrap, so that the same files give the same interval
SHOWN = 3  # ids in a message
READ = {"task", "id", "gold", "predictions", "shots_left_out", "passages_left_out"}  # of a line
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """``NAME.json`` and ``NAME.items.jsonl`` beside it, as :func:`eval.results.write_results` left them.

    Attributes:
        place: of the first.
        scores: by protocol, an :class:`eval.results.Score` as JSON.
        items: by protocol and id, an :class:`eval.results.ItemScore` as JSON.
    """

    place: str
    name: str
    scores: dict[str, Line]
    items: dict[str, dict[str, Line]]


@dataclass(frozen=True)
class Side:
    """One model's score: questions answered rightly, their share and its Wilson interval; how many were not scored."""

    correct: int
    score: float
    ci95: tuple[float, float]
    unscored: int


@dataclass(frozen=True)
class Comparison:
    """B beside A on one protocol's questions. All shares are of ``n``; what could not be scored is wrong on that side.

    Attributes:
        metric: the accuracy that is compared.
        difference: of the scores, B less A.
        ci95: of the difference, by paired bootstrap; None where no question tells the two apart.
        only_a, only_b: questions that this one alone answers rightly.
        p: exact, of McNemar's test.
        p_adjusted: for the number of protocols compared (Benjamini and Hochberg).
        detectable: the smallest difference found with 80 % power where so many questions tell two models apart; None
            where none does.
        warnings: what a reader must know before believing it.
    """

    task: str
    metric: str
    n: int
    a: Side
    b: Side
    difference: float
    ci95: tuple[float, float] | None
    only_a: int
    only_b: int
    p: float
    p_adjusted: float
    detectable: float | None
    warnings: tuple[str, ...]


def main(arguments: list[str]) -> None:
    """The command. Raises UserError."""
    parser = argparse.ArgumentParser("python -m eval compare", description="Two result files, question by question.")
    parser.add_argument("a", metavar="A.json", help="results, with A.items.jsonl beside it; local or s3://")
    parser.add_argument("b", metavar="B.json", help="what is compared with it")
    parser.add_argument("--task", nargs="+", action="extend", metavar="T", help="these alone, as named in the results")
    parser.add_argument("--metric", choices=METRICS, help="another accuracy than each task's primary one")
    parser.add_argument("--despite-prompts", action="store_true", help="although the models were asked differently")
    parser.add_argument("--despite-tokenizers", action="store_true", help="although their tokenizers are not the same")
    parser.add_argument("--json", metavar="OUT", help="write the numbers there too; local or s3://")
    asked = parser.parse_args(arguments)
    a, b = read_results(asked.a), read_results(asked.b)
    found = compare(a, b, asked.task, asked.metric, asked.despite_prompts, asked.despite_tokenizers)
    texts = compare_texts(asked.a, asked.b)
    if asked.json is not None:
        record: dict[str, Any] = {"a": a.place, "b": b.place, "comparisons": [asdict(one) for one in found]}
        record["texts"] = {name: asdict(one) for name, one in texts.items()}
        storage.write_bytes(asked.json, (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    print("\n".join([text_of(a, b, found), *lines_of(texts)]))


def read_results(place: str) -> Results:
    """Read ``NAME.json`` (local or s3://) and the items beside it.

    Raises:
        UserError: one of the two is not there, or is not such a file.
    """
    if not place.endswith(".json"):
        raise UserError(f"{place}: results are a file NAME.json, with NAME.items.jsonl beside it")
    items_place = f"{place.removesuffix('.json')}.items.jsonl"
    record = _json(storage.read_bytes(place), place)
    scores = record.get("scores") if isinstance(record, dict) else None
    if not isinstance(scores, dict) or not all("question_hash" in score for score in scores.values()):
        raise UserError(f"{place}: holds no scores of this version's evaluation; score the model again")
    items: dict[str, dict[str, Line]] = {task: {} for task in scores}
    for number, line in enumerate(storage.read_bytes(items_place).split(b"\n"), start=1):
        if not line.strip():
            continue
        item = _json(line, f"{items_place}, line {number}")
        if not isinstance(item, dict) or not item.keys() >= READ:
            raise UserError(f"{items_place}, line {number}: no question of this version's evaluation")
        if item["task"] not in items:
            raise UserError(f"{items_place}, line {number}: of {item['task']}, which {place} has no score of")
        items[item["task"]][item["id"]] = item
    for task, score in scores.items():
        if len(items[task]) != score["n"]:
            raise UserError(
                f"{items_place}: holds {len(items[task]):,} questions of {task}, {place} tells of {score['n']:,}: "
                "the two are not of one run"
            )
    return Results(place, record.get("name", place), scores, items)


def _json(content: bytes, place: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise UserError(f"{place}: not JSON: {error}") from None


def compare(
    a: Results,
    b: Results,
    tasks: Sequence[str] | None = None,
    metric: str | None = None,
    despite_prompts: bool = False,
    despite_tokenizers: bool = False,
) -> list[Comparison]:
    """Compare what both were scored on.

    Args:
        tasks: protocols, as the results name them; None: all that both have.
        metric: the accuracy to compare; None: each protocol's primary one.
        despite_prompts: compare although the models were asked differently.
        despite_tokenizers: compare although the same questions were other tokens to them.

    Raises:
        UserError: every protocol that was not asked alike, or not of the same questions; nothing to compare.
    """
    shared = [task for task in a.scores if task in b.scores]
    asked = list(dict.fromkeys(tasks if tasks is not None else shared))
    faults = [f"{task}: not in both; both have {', '.join(shared) or 'none'}" for task in asked if task not in shared]
    if not asked:
        faults.append(
            f"no task is in both: A has {', '.join(a.scores) or 'none'}, B has {', '.join(b.scores) or 'none'}"
        )
    known = [task for task in asked if task in shared]
    for task in known:
        faults += _faults(a, b, task, metric)
    other = [task for task in known if a.scores[task]["question_hash"] != b.scores[task]["question_hash"]]
    if other and not despite_prompts:
        faults.append(
            f"{', '.join(other)}: asked differently (another version, form, shots or beginning of text), so the scores "
            "do not compare; score one of the two again, or give --despite-prompts"
        )
    tokens = [
        task for task in known if task not in other and a.scores[task]["prompt_hash"] != b.scores[task]["prompt_hash"]
    ]
    if tokens and not despite_tokenizers:
        faults.append(
            f"{', '.join(tokens)}: asked the same, but with different tokenizers (prompt_hash); if that is meant, give "
            "--despite-tokenizers"
        )
    if faults:
        raise UserError("\n  ".join([f"{a.place} and {b.place} cannot be compared:", *faults]))
    found = [_compare_one(a, b, task, metric) for task in known]
    adjusted = benjamini_hochberg([one.p for one in found])
    return [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def text_of(a: Results, b: Results, found: Sequence[Comparison]) -> str:
    """The comparisons as a plain table, with what is needed to read it."""
    rows = [("task", "accuracy", "n", "A", "B", "B - A", "only A", "only B", "p", "adjusted", "detectable")]
    rows += [
        (
            one.task, one.metric, f"{one.n:,}", _points(one.a.score, one.a.ci95), _points(one.b.score, one.b.ci95),
            _points(one.difference, one.ci95, "+"), f"{one.only_a:,}", f"{one.only_b:,}", _p(one.p),
            _p(one.p_adjusted), "-" if one.detectable is None else f"{100 * one.detectable:.1f}",
        )
        for one in found
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"A: {a.name} ({a.place})",
        f"B: {b.name} ({b.place})",
        "",
        *("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows),
        "",
        *(f"{one.task}: {warning}" for one in found for warning in one.warnings),
        "In percent, with 95 % intervals: Wilson's of each score, of B - A by paired bootstrap. Only A, only B:",
        "questions that this one alone answers rightly; what could not be scored is wrong. p: exact, McNemar's;",
        f"adjusted for the {len(found)} {'task' if len(found) == 1 else 'tasks'} compared here. Detectable: the "
        "difference in points that 80 % of such tests would find.",
    ]
    for here, there, name in ((a, b, "A"), (b, a, "B")):
        alone = [task for task in here.scores if task not in there.scores]
        if alone:
            lines.append(f"Only in {name}: {', '.join(alone)}.")
    return "\n".join(lines)


def _faults(a: Results, b: Results, task: str, metric: str | None) -> list[str]:
    """Why the two were not scored on the same questions by the same accuracy."""
    faults = []
    lacking = [set(there.items[task]) - set(here.items[task]) for here, there in ((a, b), (b, a))]
    if any(lacking):
        told = [
            f"{name} lacks {len(ids):,} of the other's questions ({', '.join(sorted(ids)[:SHOWN])}"
            f"{', …' if len(ids) > SHOWN else ''})"
            for name, ids in zip("AB", lacking, strict=True)
            if ids
        ]
        faults.append(f"{task}: {' and '.join(told)}; score both on the same files with the same limit")
    golds = [
        id for id, item in a.items[task].items() if id in b.items[task] and item["gold"] != b.items[task][id]["gold"]
    ]
    if golds:
        faults.append(
            f"{task}: another option is right in B than in A in {len(golds):,} of the questions ("
            f"{', '.join(golds[:SHOWN])}{', …' if len(golds) > SHOWN else ''}): the files are of different versions"
        )
    metrics = {_metric(one, task, metric) for one in (a, b)}
    if len(metrics) > 1:
        faults.append(f"{task}: the primary accuracy is {' and '.join(sorted(metrics))}; say which one by --metric")
    faults += [
        f"{task}: {one.place} has no {name}; it was not asked for when scoring"
        for one in (a, b)
        for name in sorted(metrics)
        if one.scores[task].get(name) is None
    ]
    return faults


def _metric(results: Results, task: str, metric: str | None) -> str:
    return metric if metric is not None else results.scores[task]["metric"]


def _compare_one(a: Results, b: Results, task: str, metric: str | None) -> Comparison:
    metric = _metric(a, task, metric)
    ids = sorted(a.items[task])
    of_a, of_b = ([one.items[task][id] for id in ids] for one in (a, b))
    right_a, right_b = ([_is_right(item, metric) for item in items] for items in (of_a, of_b))
    only_a = sum(one and not other for one, other in zip(right_a, right_b, strict=True))
    only_b = sum(other and not one for one, other in zip(right_a, right_b, strict=True))
    n, discordant = len(ids), only_a + only_b
    p = mcnemar_exact(only_a, only_b)
    return Comparison(
        task=task,
        metric=metric,
        n=n,
        a=_side(of_a, right_a),
        b=_side(of_b, right_b),
        difference=(only_b - only_a) / n,
        ci95=paired_bootstrap(right_a, right_b, SEED) if discordant else None,
        only_a=only_a,
        only_b=only_b,
        p=p,
        p_adjusted=p,
        detectable=smallest_detectable_difference(n, discordant / n) if discordant else None,
        warnings=tuple(_warnings(a.scores[task], b.scores[task], of_a, of_b)),
    )


def _is_right(item: Line, metric: str) -> bool:
    return item["predictions"] is not None and item["predictions"][metric] == item["gold"]


def _side(items: Sequence[Line], right: Sequence[bool]) -> Side:
    correct, n = sum(right), len(right)
    unscored = sum(item["predictions"] is None for item in items)
    return Side(correct, correct / n, wilson_interval(correct, n), unscored)


def _warnings(a: Line, b: Line, items_a: Sequence[Line], items_b: Sequence[Line]) -> list[str]:
    found = []
    if a["question_hash"] != b["question_hash"]:
        found.append("WARNING: the two were asked differently; their scores do not compare")
    elif a["prompt_hash"] != b["prompt_hash"]:
        found.append("asked the same, with different tokenizers; accuracy per token depends on them")
    if sorted(a["files"].values()) != sorted(b["files"].values()):
        found.append("read from files with other bytes, though of the same ids and right answers")
    cut = [
        (one["shots_left_out"], one["passages_left_out"]) != (other["shots_left_out"], other["passages_left_out"])
        for one, other in zip(items_a, items_b, strict=True)
    ]
    if any(cut):
        found.append(f"so as to fit, asked after other shots or passages: {sum(cut):,} of the questions")
    unscored = [sum(item["predictions"] is None for item in items) for items in (items_a, items_b)]
    if any(unscored):
        found.append(f"not scored and counted as wrong: {unscored[0]:,} of A, {unscored[1]:,} of B")
    return found


def _points(share: float, interval: tuple[float, float] | None, sign: str = "") -> str:
    limits = "" if interval is None else f" [{100 * interval[0]:{sign}.1f}, {100 * interval[1]:{sign}.1f}]"
    return f"{100 * share:{sign}.1f}{limits}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
