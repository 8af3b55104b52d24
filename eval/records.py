"""The result files of a folder, read back and checked: what :func:`eval.results.write_results` has written there."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any

from pydantic import TypeAdapter, ValidationError

from base import storage
from base.errors import UserError
from eval.averages import Average
from eval.results import ItemScore, Score
from eval.seen import Split
from eval.task import ACC_PMI, LETTERS, METRICS

ITEMS = ".items.jsonl"
TABLE = "report_of"
"""The key by which a report's own results.json is told from a result file."""


@dataclass(frozen=True)
class FineTuned:
    """The accuracy of a model after fine-tuning on a task: never comparable with a zero-shot one."""

    acc: float
    n: int
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class RunningText:
    """What the report tells of an :class:`eval.bits_per_byte.TextScore`."""

    bits_per_byte: float
    ci95: tuple[float, float] | None
    documents: int
    bytes: int


@dataclass(frozen=True)
class Seen:
    """What :func:`eval.seen.split` gives."""

    card: str
    sha256: str
    scores: dict[str, Split]


@dataclass(frozen=True)
class Record:
    """One ``NAME.json``.

    Attributes:
        name: of the file, without ``.json``.
        model: what was scored, as the command was given it.
        tokens, batch: how far its training was; None for a model of which that is not known.
        data: the folder with the questions.
        scores: by protocol.
        averages: of groups of protocols.
        seen: scores on what was in the training corpus and on what was not; None when that was not asked.
        texts: bits per byte, by the name of the texts.
        fine_tuned: by task.
        about: whatever else stands in the file.
    """

    name: str = ""
    model: str | None = None
    tokens: int | None = None
    batch: int | None = None
    data: str | None = None
    scores: dict[str, Score] = field(default_factory=dict)
    averages: dict[str, Average] = field(default_factory=dict)
    seen: Seen | None = None
    texts: dict[str, RunningText] = field(default_factory=dict)
    fine_tuned: dict[str, FineTuned] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


RECORD, ITEM = TypeAdapter(Record), TypeAdapter(ItemScore)
NAMED = {one.name for one in fields(Record)}


def read_records(folder: str) -> tuple[list[Record], dict[str, str]]:
    """All result files of a folder (local or s3://) in the order of their names, and for each that is none the reason.

    Raises:
        UserError: the folder is not there, or no JSON is in it.
    """
    names = [name for name in storage.list_files(folder) if "/" not in name and name.endswith(".json")]
    records: list[Record] = []
    left_out: dict[str, str] = {}
    for name in sorted(names):
        try:
            record = read_record(storage.join(folder, name))
        except UserError as error:
            left_out[name] = str(error)
            continue
        if record is not None:
            records.append(record)
    if not records and not left_out:
        raise UserError(
            f"{folder}: no result file is there; evaluate.py and ScoreCheckpoints (results_folder) write NAME.json"
        )
    return records, left_out


def read_record(place: str) -> Record | None:
    """One result file; None for the table that a report has left beside them.

    Raises:
        UserError: it cannot be read, is not whole, or is of another format than this version's.
    """
    content = storage.read_bytes(place)
    try:
        told = json.loads(content, parse_constant=_refuse)
        if isinstance(told, dict) and TABLE in told:
            return None
        json.dumps(told, allow_nan=False)  # 1e999 is read as infinity
        record = RECORD.validate_json(content, strict=True)
    except ValidationError as error:
        raise UserError(f"not a result file of this version: {_first(error)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON, or not whole: {error}") from None
    if not (record.scores or record.texts or record.fine_tuned):
        raise UserError("holds no score: not a result file")
    faults = [f"{name}: {fault}" for name, score in record.scores.items() for fault in _faults(score)]
    if faults:
        raise UserError("; ".join(faults))
    name = place.rsplit("/", 1)[-1].removesuffix(".json")
    return replace(record, name=name, about={key: told[key] for key in told if key not in NAMED})


def read_items(folder: str, record: Record) -> dict[str, list[ItemScore]]:
    """The items of a record, by protocol.

    Raises:
        UserError: the file is not there, not whole, or not of this record.
    """
    place = storage.join(folder, f"{record.name}{ITEMS}")
    items: dict[str, list[ItemScore]] = {name: [] for name in record.scores}
    for number, line in enumerate(storage.read_bytes(place).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            item = ITEM.validate_json(line, strict=True)
        except ValidationError as error:
            raise UserError(f"{place}, line {number}: not a whole item: {_first(error)}") from None
        if item.task not in items:
            raise UserError(f"{place}, line {number}: of {item.task}, which {record.name}.json has no score of")
        fault = _fault_of(item, record.scores[item.task].metric)
        if fault:
            raise UserError(f"{place}, line {number}: {fault}")
        items[item.task].append(item)
    for name, score in record.scores.items():
        if len(items[name]) != score.n:
            raise UserError(
                f"{place}: holds {len(items[name]):,} items of {name}, {record.name}.json tells of {score.n:,}: it was "
                "cut off, or the two are not of one run"
            )
    return items


def _refuse(constant: str) -> None:
    raise ValueError(f"holds {constant}, which is no number")


def _first(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False)
    where = ".".join(map(str, details[0]["loc"]))
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return f"{where}: {details[0]['msg']}{more}" if where else f"{details[0]['msg']}{more}"


def _faults(score: Score) -> Iterable[str]:
    """What no scoring could have written, and what would make a page of nonsense."""
    if score.metric not in METRICS or getattr(score, score.metric) is None:
        yield f"metric is {score.metric!r}, of which it has no score"
    shares = [getattr(score, metric) for metric in METRICS]
    shares += [share for pair in (score.ci95, *score.intervals.values()) for share in pair]
    shares += [score.majority, score.macro_f1, score.ece]
    shares += [share for subject in score.subjects.values() for share in subject.ci95]
    if not all(share is None or 0 <= share <= 1 for share in shares):
        yield "a share is not between 0 and 1"
    if score.metric not in score.intervals or score.metric not in score.predicted:
        yield f"has no interval or no histogram of {score.metric}"
    elif not len(score.gold) == len(score.predicted[score.metric]) <= len(LETTERS):
        yield "its histograms are not of the same options"
    if not 0 <= score.scored <= score.n or score.n < 1:
        yield f"{score.scored} scored of {score.n}"
    if any(not 0 <= subject.correct <= subject.n or subject.n < 1 for subject in score.subjects.values()):
        yield "a subject has more right answers than questions"


def _fault_of(item: ItemScore, metric: str) -> str | None:
    values = item.log_likelihoods
    if values is None:
        return None
    if not all(map(isfinite, (*values, *(item.without_question or ())))):
        return "a log-likelihood is not finite"
    lengths = [item.characters, item.bytes, item.tokens, *([item.without_question] if item.without_question else [])]
    if (
        any(one is None or len(one) != len(values) for one in lengths)
        or min(min(one or (0,)) for one in lengths[:3]) < 1
    ):
        return "its options have no length each"
    if metric not in (item.predictions or {}) or (metric == ACC_PMI and not item.without_question):
        return f"has no answer by {metric}"
    return None
