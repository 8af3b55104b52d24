"""The official files of a task, found below a folder, checked against the known releases, and read as questions."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from base.errors import UserError
from eval.task import BadRow, Item, Protocol, Refused, Release, Row, Source, Task


@dataclass(frozen=True)
class Questions:
    """What the files hold, or the part of it that a limit has left.

    Attributes:
        sha256: of each file that was read, by its path below the data folder.
        release: what the first file is known as, by its SHA-256; None when it is none of the known ones.
        rows_in_file: rows of all files, refused ones included.
        shots: examples that stand before each question, in this order.
    """

    protocol: Protocol
    sha256: dict[str, str]
    release: str | None
    rows_in_file: int
    items: tuple[Item, ...]
    refused: tuple[Refused, ...]
    shots: tuple[Item, ...] = ()

    @property
    def n(self) -> int:
        """The denominator of the score: questions and refused rows."""
        return len(self.items) + len(self.refused)

    def describe(self) -> str:
        """``medqa: 64 of 636 rows in FILE; the official test has 1,273; 1 row refused: line 3 (…): options …``"""
        part = f"{self.n:,} of " if self.n < self.rows_in_file else ""
        text = f"{self.protocol.name}: {part}{self.rows_in_file:,} rows in {', '.join(self.sha256)}; {self.known_as()}"
        if self.refused:
            text += f"; {_told(self.refused)}"
        return text

    def known_as(self) -> str:
        """How the file stands to the known releases."""
        if self.release is not None:
            return f"by its SHA-256 the official {self.release}"
        releases = self.protocol.task.scored.releases
        same = [one for one in releases if one.rows == self.rows_in_file]
        if same and same[0].sha256 is not None:
            return f"as many rows as the official {same[0].name}, whose bytes are others"
        if same:
            return f"as many rows as the official {same[0].name}"
        return ", ".join(f"the official {one.name} has {one.rows:,}" for one in releases) or "no release is known"


def load_questions(protocol: Protocol, data: str, limit: int | None = None) -> Questions:
    """Find and read the official files of a protocol's task below the folder ``data``, and its shots.

    ``limit`` keeps the first so many rows in the order of a hash of task and id: the same ones in every file, order and
    process, spread over the file, and a smaller limit keeps a subset of what a larger one keeps.

    Raises:
        UserError: no such file, no row, a file of another version, or one in which every row is bad; too few shots.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit: must be at least 1 question; it is {limit}")
    task = protocol.task
    paths = find_files(task, task.scored, data)
    items, refused = _read(task, paths)
    sha256 = {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    kept = _first_by_hash(task, [item.id for item in items] + [row.id for row in refused], limit)
    return Questions(
        protocol=protocol,
        sha256=sha256,
        release=_release(task.scored.releases, next(iter(sha256.values()))),
        rows_in_file=len(items) + len(refused),
        items=tuple(item for item in items if item.id in kept),
        refused=tuple(entry for entry in refused if entry.id in kept),
        shots=_shots(protocol, data),
    )


def find_files(task: Task, source: Source, data: str) -> list[Path]:
    """The official files that a task needs.

    Raises:
        UserError: there is no such folder, or a file is missing; the message says from where to get it.
    """
    root = Path(data)
    if not root.is_dir():
        raise UserError(f"{data}: no such folder; the question-answering files of {task.name} are looked for in it")
    paths: list[Path] = []
    for pattern in source.patterns:
        found = sorted((path for path in root.glob(pattern) if path.is_file()), key=lambda path: (len(path.name), path))
        if not found:
            raise UserError(f"{task.name}: there is no {root / pattern}. {task.origin}")
        paths += sorted(found) if source.every else found[:1]
    return paths


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


def read_json_lines(paths: Sequence[Path]) -> Iterator[tuple[str, Row | BadRow]]:
    """``Task.read_rows`` of files with a JSON object a line."""
    for path in paths:
        yield from json_lines(path.read_bytes())


def _read(task: Task, paths: Sequence[Path]) -> tuple[list[Item], list[Refused]]:
    rows: list[tuple[str, Row]] = []
    refused: list[Refused] = []
    for place, row in task.read_rows(paths):
        if isinstance(row, BadRow):
            refused.append(Refused(place, place, str(row)))
        else:
            rows.append((place, row))
    fault = task.check_rows([row for _, row in rows]) if task.check_rows else None
    if fault:
        raise UserError(f"{paths[0]}: {fault}. {task.origin}")
    items, bad = _items(task, rows)
    refused += bad
    if not items:
        told = _told(refused) if refused else "it holds no row"
        raise UserError(f"{paths[0]}: holds no question for {task.name}: {told}. {task.origin}")
    return items, refused


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


def _shots(protocol: Protocol, data: str) -> tuple[Item, ...]:
    """As many examples as the protocol has; a row that is no question is no example."""
    task = protocol.task
    if protocol.shots == 0:
        return ()
    if task.shots is None:
        raise UserError(f"{protocol.name}: {task.name} has no file that examples are taken from; ask it with 0 shots")
    items, _ = _read(task, find_files(task, task.shots, data))
    if not task.shots.in_order:
        items = sorted(items, key=lambda item: _hash(task, item.id))
    if len(items) < protocol.shots:
        raise UserError(f"{protocol.name}: there are {len(items)} examples for {protocol.shots} shots")
    return tuple(items[: protocol.shots])


def _release(releases: Sequence[Release], sha256: str) -> str | None:
    return next((one.name for one in releases if one.sha256 == sha256), None)


def _first_by_hash(task: Task, ids: Sequence[str], limit: int | None) -> set[str]:
    return set(ids if limit is None else sorted(ids, key=lambda id: _hash(task, id))[:limit])


def _hash(task: Task, id: str) -> bytes:
    return hashlib.sha256(f"{task.name}:{id}".encode()).digest()


def _told(refused: Sequence[Refused]) -> str:
    shown = "; ".join(f"{entry.id}: {entry.reason}" for entry in refused[:3])
    more = f"; and {len(refused) - 3:,} more" if len(refused) > 3 else ""
    return f"{len(refused):,} {'row' if len(refused) == 1 else 'rows'} refused: {shown}{more}"
