"""Result files, read back and checked: ``NAME.json``, ``NAME.items.jsonl`` and ``NAME.texts.jsonl``."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from math import isfinite
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from base import storage
from base.errors import UserError
from eval.averages import Average
from eval.bits_per_byte import DocumentScore
from eval.results import ItemScore, Score
from eval.seen import Split
from eval.task import ACC_PMI, LETTERS, METRICS

ITEMS, DOCUMENTS = ".items.jsonl", ".texts.jsonl"  # beside NAME.json
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
        place: of the file, local or s3://.
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

    place: str = ""
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


RECORD, ITEM, DOCUMENT = TypeAdapter(Record), TypeAdapter(ItemScore), TypeAdapter(DocumentScore)
NAMED = {one.name for one in fields(Record)}
Line = TypeVar("Line")


def read_records(folder: str) -> tuple[list[Record], dict[str, str]]:
    """All result files of a folder (local or s3://) in the order of their names, and for each that is none the reason.

    Raises:
        UserError: the folder is not there, or no JSON is in it.
    """
    names = [name for name in storage.list_files(folder) if "/" not in name and name.endswith(".json")]
    records: list[Record] = []
    left_out: dict[str, str] = {}
    for name in sorted(names):
        place = storage.join(folder, name)
        try:
            record = _record(place, storage.read_bytes(place))
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


def read_record(place: str) -> Record:
    """One result file, local or s3://.

    Raises:
        UserError: it cannot be read, is not whole, or is of another format than this version's.
    """
    if not place.endswith(".json"):
        raise UserError(f"{place}: results are a file NAME.json, with NAME{ITEMS} beside it")
    content = storage.read_bytes(place)
    remedy = "give a NAME.json that this version's evaluation has written"
    try:
        record = _record(place, content)
    except UserError as error:
        raise UserError(f"{place}: {error}; {remedy}") from None
    if record is None:
        raise UserError(f"{place}: the table of a report; {remedy}")
    return record


def is_table(place: str) -> bool:
    """Whether it is the table that a report has left beside result files."""
    try:
        return _record(place, storage.read_bytes(place)) is None
    except UserError:
        return False


def read_items(record: Record) -> dict[str, list[ItemScore]]:
    """The items of a record, by protocol.

    Raises:
        UserError: the file is not there, not whole, or not of this record.
    """
    place = _beside(record, ITEMS)
    items: dict[str, dict[str, ItemScore]] = {name: {} for name in record.scores}
    for where, item in _lines(place, ITEM):
        if item.task not in items:
            raise UserError(f"{where}: of {item.task}, which {record.name}.json has no score of")
        if item.id in items[item.task]:
            raise UserError(f"{where}: {item.id} of {item.task} is there twice")
        score = record.scores[item.task]
        fault = _fault_of(item, [metric for metric in METRICS if getattr(score, metric) is not None])
        if fault:
            raise UserError(f"{where}: {fault}")
        items[item.task][item.id] = item
    _check_numbers(place, record, {name: (len(items[name]), score.n) for name, score in record.scores.items()})
    return {name: list(of_one.values()) for name, of_one in items.items()}


def read_documents(record: Record) -> dict[str, list[DocumentScore]]:
    """The documents of a record, by the name of the texts.

    Raises:
        UserError: the file is not there, not whole, or not of this record.
    """
    place = _beside(record, DOCUMENTS)
    documents: dict[str, list[DocumentScore]] = {name: [] for name in record.texts}
    for where, one in _lines(place, DOCUMENT):
        if one.texts not in documents:
            raise UserError(f"{where}: of {one.texts}, which {record.name}.json has no score of")
        if not isfinite(one.nats) or one.bytes < 1:
            raise UserError(f"{where}: {one.nats} nats for {one.bytes} bytes")
        documents[one.texts].append(one)
    _check_numbers(place, record, {name: (len(documents[name]), text.documents) for name, text in record.texts.items()})
    return documents


def _record(place: str, content: bytes) -> Record | None:
    """None for the table of a report. Its errors do not name the place."""
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
    return replace(record, place=place, name=name, about={key: told[key] for key in told if key not in NAMED})


def _beside(record: Record, ending: str) -> str:
    return f"{record.place.removesuffix('.json')}{ending}"


def _lines(place: str, kind: TypeAdapter[Line]) -> Iterator[tuple[str, Line]]:
    """Each line, with the words for where it is."""
    for number, line in enumerate(storage.read_bytes(place).split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{place}, line {number}"
        try:
            yield where, kind.validate_json(line, strict=True)
        except ValidationError as error:
            raise UserError(f"{where}: not whole, or not of this version: {_first(error)}") from None


def _check_numbers(place: str, record: Record, numbers: dict[str, tuple[int, int]]) -> None:
    """By name: how many lines there are, and how many the record tells of."""
    for name, (there, told) in numbers.items():
        if there != told:
            raise UserError(
                f"{place}: holds {there:,} of {name}, {record.name}.json tells of {told:,}: it was cut off, or the two "
                "are not of one run"
            )


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


def _fault_of(item: ItemScore, metrics: Sequence[str]) -> str | None:
    values = item.log_likelihoods
    if values is None:
        return "has answers without log-likelihoods" if item.predictions is not None else None
    if not all(map(isfinite, (*values, *(item.without_question or ())))):
        return "a log-likelihood is not finite"
    lengths = [item.characters, item.bytes, item.tokens, *([item.without_question] if item.without_question else [])]
    if (
        any(one is None or len(one) != len(values) for one in lengths)
        or min(min(one or (0,)) for one in lengths[:3]) < 1
    ):
        return "its options have no length each"
    for metric in metrics:
        if metric not in (item.predictions or {}) or (metric == ACC_PMI and not item.without_question):
            return f"has no answer by {metric}"
    return None
