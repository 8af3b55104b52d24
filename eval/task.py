"""A question-answering task as data, and its official file as questions. Nothing here knows a model.

The path of a row: a line of the official file → ``Task.read_row`` → :class:`Item`, or :class:`Refused` with the reason.
Every row ends in one of the two, and refused rows stay in the denominator of the score as wrong answers.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base.errors import UserError

Row = dict[str, Any]


class BadRow(ValueError):
    """Why a row of a file cannot become a question."""


@dataclass(frozen=True)
class Item:
    """One question. ``gold`` counts from 0; ``subject`` is None where the data set has none."""

    id: str
    question: str
    options: tuple[str, ...]
    gold: int
    subject: str | None = None


@dataclass(frozen=True)
class Refused:
    """A row that is no question: its id when it has one (else its place in the file), its place, and the reason."""

    id: str
    place: str
    reason: str


@dataclass(frozen=True)
class Task:
    """What is asked, how, and from which file.

    Attributes:
        name: as in configurations and loggers.
        version: goes up whenever a score of this task stops being comparable with earlier ones.
        files: patterns of the official file below the data folder.
        origin: from where the user gets the file.
        official_rows: rows of the official file in the releases known, by the name of the release.
        read_row: row → Item; raises BadRow.
        check_file: all rows → what shows that the file is of another version, or None; None where rows show it alone.
        template: the prompt; ``{question}`` stands for the question's text, as it is in the file.
        separator: between prompt and option. It is scored, but does not count as a character of the option.
        notes: what a reader must know before setting the score beside another one.
    """

    name: str
    version: int
    files: tuple[str, ...]
    origin: str
    official_rows: dict[str, int]
    read_row: Callable[[Row], Item]
    check_file: Callable[[Sequence[Row]], str | None] | None
    template: str
    separator: str
    notes: str

    def prompt(self, item: Item) -> str:
        """The text before the separator and the option."""
        return self.template.format(question=item.question)


@dataclass(frozen=True)
class Questions:
    """What a file holds, or the part of it that a limit has left."""

    task: Task
    file: str
    sha256: str
    rows_in_file: int
    refused_in_file: int
    items: tuple[Item, ...]
    refused: tuple[Refused, ...]

    @property
    def n(self) -> int:
        """The denominator of the score: questions and refused rows."""
        return len(self.items) + len(self.refused)

    def describe(self) -> str:
        """``medqa: 64 of 636 rows in FILE; the official test has 1,273; 1 row refused: line 3 (…): options …``"""
        official = ", ".join(f"the official {name} has {rows:,}" for name, rows in self.task.official_rows.items())
        part = f"{self.n:,} of " if self.n < self.rows_in_file else ""
        text = f"{self.task.name}: {part}{self.rows_in_file:,} rows in {self.file}; {official}"
        if self.refused:
            text += f"; {_told(self.refused)}"
        return text


def load_questions(task: Task, data: str, limit: int | None = None) -> Questions:
    """Find and read the task's official file below the folder ``data``.

    ``limit`` keeps the first so many rows in the order of a hash of task and id: the same ones in every file, order and
    process, spread over the file, and a smaller limit keeps a subset of what a larger one keeps.

    Raises:
        UserError: no such file, no row, a file of another version, or one in which every row is bad.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit: must be at least 1 question; it is {limit}")
    path = find_file(task, data)
    content = path.read_bytes()
    rows: list[tuple[str, Row]] = []
    refused: list[Refused] = []
    for place, row in json_lines(content):
        if isinstance(row, BadRow):
            refused.append(Refused(place, place, str(row)))
        else:
            rows.append((place, row))
    fault = task.check_file([row for _, row in rows]) if task.check_file else None
    if fault:
        raise UserError(f"{path}: {fault}. {task.origin}")
    items, bad = _items(task, rows)
    refused += bad
    if not items:
        told = _told(refused) if refused else "it holds no row"
        raise UserError(f"{path}: holds no question for {task.name}: {told}. {task.origin}")
    kept = _first_by_hash(task, [item.id for item in items] + [row.id for row in refused], limit)
    return Questions(
        task=task,
        file=str(path.relative_to(data)),
        sha256=hashlib.sha256(content).hexdigest(),
        rows_in_file=len(items) + len(refused),
        refused_in_file=len(refused),
        items=tuple(item for item in items if item.id in kept),
        refused=tuple(entry for entry in refused if entry.id in kept),
    )


def find_file(task: Task, data: str) -> Path:
    """The official file; where several fit, the one with the shortest name, since parts have longer ones."""
    root = Path(data)
    if not root.is_dir():
        raise UserError(f"{data}: no such folder; the question-answering files of {task.name} are looked for in it")
    found = [path for pattern in task.files for path in root.glob(pattern) if path.is_file()]
    if not found:
        patterns = " or ".join(str(root / pattern) for pattern in task.files)
        raise UserError(f"{task.name}: there is no {patterns}. {task.origin}")
    return min(found, key=lambda path: (len(path.name), str(path)))


def json_lines(content: bytes) -> Iterator[tuple[str, Row | BadRow]]:
    """(place, row) of every line that is not blank; a line that is not a JSON object gives a BadRow in its stead."""
    # Split at newlines alone: str.splitlines would also split inside questions, at U+2028 and its like.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        row: Row | BadRow
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            row = BadRow(f"not JSON: {error}")
        if not isinstance(row, dict | BadRow):
            row = BadRow(f"not a JSON object but a {type(row).__name__}")
        yield f"line {number}", row


def text_of(row: Row, key: str) -> str:
    """The text at ``key``, unchanged. Raises BadRow when it is missing, not text (NaN for example) or empty."""
    if key not in row:
        raise BadRow(f"has no {key}")
    if not isinstance(row[key], str):
        raise BadRow(f"{key} is not text but {row[key]!r}")
    if not row[key].strip():
        raise BadRow(f"{key} is empty")
    try:
        row[key].encode()
    except UnicodeEncodeError:
        raise BadRow(f"{key} holds half a surrogate pair, which is no character") from None
    return row[key]


def _items(task: Task, rows: Sequence[tuple[str, Row]]) -> tuple[list[Item], list[Refused]]:
    items: list[Item] = []
    refused: list[Refused] = []
    place_of: dict[str, str] = {}
    for place, row in rows:
        try:
            item = task.read_row(row)
        except BadRow as error:
            given = row.get("id")
            # Its place is part of the name, so that no refused row is taken for another row with the same id.
            refused.append(Refused(f"{given} ({place})" if given else place, place, str(error)))
            continue
        if item.id in place_of:
            refused.append(Refused(f"{item.id} ({place})", place, f"has the id of {place_of[item.id]}"))
            continue
        place_of[item.id] = place
        items.append(item)
    return items, refused


def _first_by_hash(task: Task, ids: Sequence[str], limit: int | None) -> set[str]:
    if limit is None:
        return set(ids)
    return set(sorted(ids, key=lambda id: hashlib.sha256(f"{task.name}:{id}".encode()).digest())[:limit])


def _told(refused: Sequence[Refused]) -> str:
    shown = "; ".join(f"{entry.id}: {entry.reason}" for entry in refused[:3])
    more = f"; and {len(refused) - 3:,} more" if len(refused) > 3 else ""
    return f"{len(refused):,} {'row' if len(refused) == 1 else 'rows'} refused: {shown}{more}"
