"""What an evaluation's report tells, gathered from a folder of result files; and the same as one table for machines."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from base.errors import UserError
from eval.official_files import Questions, load_questions
from eval.published import PUBLISHED, Published
from eval.records import TABLE, Record, read_items, read_records
from eval.results import ItemScore, Score
from eval.statistics import CalibrationBin, calibration_bins, softmax
from eval.task import Protocol
from eval.tasks import TASKS

LARGE = ("files", "release", "notes", "subjects", "gold", "predicted", "unscorable")  # of a score: told once, below


@dataclass(frozen=True)
class Facts:
    """All that the report is made of.

    Attributes:
        shown: the record that the report is of.
        curve: records with tokens, in their order, the shown one among them; empty when it has none.
        against: other models' records, to stand beside it.
        others: names of the records that are neither.
        left_out: file → why it is no record.
        items: by protocol, of the shown record; empty, with the reason in ``no_items``.
        questions: by protocol, the texts, where the files that were scored are there; else the reason in
            ``no_questions``.
        command: that made the report.
    """

    folder: str
    shown: Record
    curve: list[Record]
    against: list[Record]
    others: list[str]
    left_out: dict[str, str]
    items: dict[str, list[ItemScore]]
    no_items: str | None
    questions: dict[str, Questions]
    no_questions: dict[str, str]
    command: str

    @property
    def compared(self) -> list[Record]:
        """The shown record, then those beside it."""
        return [self.shown, *self.against]

    def bins(self, protocol: str) -> list[CalibrationBin]:
        """Of the protocol's items; empty when there are none that were scored."""
        scored = [item for item in self.items.get(protocol, ()) if item.log_likelihoods and item.gold is not None]
        if not scored:
            return []
        probabilities = [softmax(item.log_likelihoods) for item in scored if item.log_likelihoods]
        return calibration_bins(probabilities, [item.gold for item in scored if item.gold is not None])

    def published(self) -> list[Published]:
        """What was published of the tasks that the shown record has a score of."""
        tasks = {score.task for score in self.shown.scores.values()} | set(self.shown.fine_tuned)
        return [one for one in PUBLISHED if one.task in tasks]


def gather(folder: str, name: str | None, against: Sequence[str], data: str | None, command: str) -> Facts:
    """Read the folder (local or s3://).

    Args:
        name: of the record to show; None: the one with most tokens, or the only one.
        against: names of other records.
        data: the folder with the questions; None: the one that the record names.

    Raises:
        UserError: no record is there; a name is that of none, or none is given where there are several to choose from.
    """
    records, left_out = read_records(folder)
    by_name = {record.name: record for record in records}
    faults = []
    for asked in [*([name] if name is not None else []), *against]:
        reason = left_out.get(f"{asked}.json", f"there are {', '.join(by_name) or 'none'}")
        faults += [] if asked in by_name else [f"{folder}: no result file {asked}.json can be used: {reason}"]
    if name in against:
        faults.append(f"--against: {name} is the record that is shown")
    if faults:
        raise UserError("\n".join(faults))
    ours = [record for record in records if record.name not in against]
    shown = by_name[name] if name is not None else _last(folder, ours, left_out)
    trained = sorted((one for one in ours if one.tokens is not None), key=lambda one: (one.tokens or 0, one.name))
    curve = trained if shown.tokens is not None else []
    items, no_items = _items(shown)
    questions, no_questions = _questions(shown, data or shown.data)
    told = {record.name for record in (shown, *curve)} | set(against)
    return Facts(
        folder=folder,
        shown=shown,
        curve=curve,
        against=[by_name[one] for one in dict.fromkeys(against)],
        others=[one for one in by_name if one not in told],
        left_out=left_out,
        items=items,
        no_items=no_items,
        questions=questions,
        no_questions=no_questions,
        command=command,
    )


def _last(folder: str, ours: Sequence[Record], left_out: dict[str, str]) -> Record:
    trained = [record for record in ours if record.tokens is not None]
    if trained:
        return max(trained, key=lambda record: (record.tokens or 0, record.name))
    if len(ours) == 1:
        return ours[0]
    if not ours:
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in left_out.items())
        raise UserError(f"{folder}: no result file there can be shown{reasons and ':'}{reasons}")
    names = ", ".join(record.name for record in ours)
    raise UserError(f"{folder}: several models were scored, and none tells its tokens: say --name, one of {names}")


def _items(shown: Record) -> tuple[dict[str, list[ItemScore]], str | None]:
    if not shown.scores:
        return {}, None
    try:
        return read_items(shown), None
    except UserError as error:
        return {}, str(error)


def protocol_of(score: Score) -> Protocol | str:
    """What this code knows under the score's task and form; or why that is not what was asked."""
    task = TASKS.get(score.task)
    if task is None or score.form not in task.forms:
        return f"this version knows no task {score.task} in the form {score.form}"
    if task.version != score.version:
        return f"it was version {score.version} of {score.task}; this code has version {task.version}"
    return Protocol(task, score.form, score.shots)


def _questions(shown: Record, data: str | None) -> tuple[dict[str, Questions], dict[str, str]]:
    found: dict[str, Questions] = {}
    missing: dict[str, str] = {}
    for name, score in shown.scores.items():
        protocol = protocol_of(score)
        if isinstance(protocol, str):
            missing[name] = protocol
        elif data is None:
            missing[name] = "the results name no folder with the questions; give --data"
        else:
            try:
                questions = load_questions(replace(protocol, shots=0), data)
            except (UserError, OSError) as error:
                missing[name] = str(error)
                continue
            if set(questions.sha256.values()) == set(score.files.values()):
                found[name] = questions
            else:
                missing[name] = f"the files below {data} are not those that were scored, by their SHA-256"
    return found, missing


def numbers(facts: Facts) -> dict[str, Any]:
    """The report's numbers: ``scores`` has a row for each record and protocol, in the order of tokens; shares are
    fractions; the rest is of the shown record."""
    shown = facts.shown
    everything = sorted(
        {record.name: record for record in (shown, *facts.curve, *facts.against)}.values(),
        key=lambda record: (record.tokens is None, record.tokens or 0, record.name),
    )
    return {
        TABLE: shown.name,
        "scores": [
            _place(record) | {"protocol": name} | _row(score)
            for record in everything
            for name, score in record.scores.items()
        ],
        "averages": _rows(everything, "group", "averages"),
        "texts": _rows(everything, "text", "texts"),
        "fine_tuned": _rows(everything, "task", "fine_tuned"),
        "seen": asdict(shown.seen) if shown.seen is not None else None,
        "protocols": {
            name: {key: value for key, value in asdict(score).items() if key in LARGE}
            | {"calibration": [asdict(one) for one in facts.bins(name)]}
            for name, score in shown.scores.items()
        },
        "published": [asdict(one) for one in facts.published()],
        "about": shown.about,
        "left_out": facts.left_out,
        "command": facts.command,
    }


def _rows(records: Sequence[Record], key: str, attribute: str) -> list[dict[str, Any]]:
    """What the records hold by name, ``key: name`` in each row."""
    return [
        _place(record) | {key: name} | asdict(value)
        for record in records
        for name, value in getattr(record, attribute).items()
    ]


def _place(record: Record) -> dict[str, Any]:
    return {"record": record.name, "model": record.model, "tokens": record.tokens, "batch": record.batch}


def _row(score: Score) -> dict[str, Any]:
    row = {key: value for key, value in asdict(score).items() if key not in LARGE}
    return row | {"primary": score.primary, "primary_ci95": score.intervals[score.metric]}
