"""The official files of a task, found below a folder, checked against the known releases, and read as questions."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base.errors import UserError
from eval.other_formats import looks_like
from eval.task import BadRow, Item, Protocol, Refused, Row, Source, Task, first_few


@dataclass(frozen=True)
class Questions:
    """What the files hold, or the part of it that a limit has left.

    Attributes:
        sha256: of each file that was read, by its path below the data folder.
        release: what the files are known as, by their SHA-256; None when one is none of the known ones.
        rows_in_file: rows of all files, refused ones included.
        shots: examples that stand before each question, in this order.
        repeated: rows that another file has word for word; they are counted once.
    """

    protocol: Protocol
    sha256: dict[str, str]
    release: str | None
    rows_in_file: int
    items: tuple[Item, ...]
    refused: tuple[Refused, ...]
    shots: tuple[Item, ...] = ()
    repeated: int = 0

    @property
    def n(self) -> int:
        """The denominator of the score: questions and refused rows."""
        return len(self.items) + len(self.refused)

    def describe(self) -> str:
        """``medqa: 64 of 636 rows in FILE; the official test has 1,273; 1 row refused: line 3 (…): options …``"""
        part = f"{self.n:,} of " if self.n < self.rows_in_file else ""
        files = list(self.sha256)
        names = ", ".join(files) if len(files) < 3 else f"{len(files)} files ({files[0]} to {files[-1]})"
        text = f"{self.protocol.name}: {part}{self.rows_in_file:,} rows in {names}; {self.known_as()}"
        if self.refused:
            text += f"; {_told(self.refused)}"
        if self.repeated:
            text += f"; {self.repeated:,} more are the same in two files, counted once"
        alike = sum(len(set(item.options)) < len(item.options) for item in self.items)
        if alike:
            # They stay questions, as in every harness; but a gold that is the later of the two is never chosen.
            text += f"; {alike:,} with two identical options, of which the first is chosen"
        return text

    def known_as(self) -> str:
        """How the files stand to the known releases."""
        source = self.protocol.task.scored
        if self.release is not None:
            return f"by SHA-256 the official {self.release}"
        if source.every:
            others = [file for file, sha256 in self.sha256.items() if _release(source, sha256) is None]
            return f"of no release that is known: {', '.join(others)}"
        same = [one for one in source.releases if one.rows == self.rows_in_file]
        if same and same[0].sha256:
            return f"as many rows as the official {same[0].name}, whose bytes are others"
        if same:
            return f"as many rows as the official {same[0].name}"
        return (
            ", ".join(f"the official {one.name} has {one.rows:,}" for one in source.releases) or "no release is known"
        )


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
    items, refused, repeated = _read(task, task.scored, paths)
    sha256 = {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    kept = _first_by_hash(task, [item.id for item in items] + [row.id for row in refused], limit)
    return Questions(
        protocol=protocol,
        sha256=sha256,
        release=_releases(task.scored, list(sha256.values())),
        rows_in_file=len(items) + len(refused),
        items=tuple(item for item in items if item.id in kept),
        refused=tuple(entry for entry in refused if entry.id in kept),
        shots=_shots(protocol, data),
        repeated=repeated,
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
            name = task.name if source == task.scored else f"{task.name}_1shot"
            get = f"`python -m eval get {name} --data {data}` fetches it. " if source.downloads else ""
            raise UserError(f"{task.name}: there is no {root / pattern}. {get}{task.origin}")
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
            row = json.loads(line, object_pairs_hook=_object)
        except BadRow as error:
            row = error
        except (ValueError, RecursionError) as error:
            row = BadRow(f"not JSON: {error}")
        if not isinstance(row, dict | BadRow):
            row = BadRow(f"not a JSON object but a {type(row).__name__}")
        yield f"line {number}", row


def read_json_lines(paths: Sequence[Path]) -> Iterator[tuple[str, Row | BadRow]]:
    """``Source.read_rows`` of files with a JSON object a line."""
    for path in paths:
        yield from json_lines(path.read_bytes())


def read_json(path: Path) -> Any:
    """The value in a file that is JSON as a whole. Raises UserError when it is not, or not whole."""
    content = path.read_bytes()
    try:
        return json.loads(content.removeprefix(b"\xef\xbb\xbf"), object_pairs_hook=_object)
    except BadRow as error:
        raise UserError(f"{path}: an object in it {error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not in UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        whole = content.rstrip().endswith((b"}", b"]"))
        cut = "" if whole else "; it ends in the middle, so a part of it is missing"
        raise UserError(f"{path}: not JSON: {error}{cut}") from None


def _object(pairs: list[tuple[str, Any]]) -> Row:
    """A JSON object. Of two values under one name json takes the last in silence: two questions under one PMID, say."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise BadRow(f"has {twice} twice")
    return dict(pairs)


def _read(task: Task, source: Source, paths: Sequence[Path]) -> tuple[list[Item], list[Refused], int]:
    rows: list[tuple[str, Row]] = []
    refused: list[Refused] = []
    for place, row in source.read_rows(paths):
        if isinstance(row, BadRow):
            refused.append(Refused(place, place, str(row)))
        else:
            rows.append((place, row))
    given = [row for _, row in rows]
    fault = source.check_rows(given) if source.check_rows else None
    if fault:
        raise UserError(f"{paths[0]}: {fault}. {task.origin}")
    items, bad, repeated = _items(source, rows)
    refused += bad
    if not items:
        told = _told(refused) if refused else "it holds no row"
        other = looks_like(given)
        told += f"; its format looks like {other}" if other else ""
        raise UserError(f"{paths[0]}: holds no question for {task.name}: {told}. {task.origin}")
    return items, refused, repeated


def _items(source: Source, rows: Sequence[tuple[str, Row]]) -> tuple[list[Item], list[Refused], int]:
    items: list[Item] = []
    refused: list[Refused] = []
    first: dict[str, tuple[str, Row]] = {}
    repeated = 0
    for place, row in rows:
        try:
            item = source.read_row(row)
        except BadRow as error:
            given = row.get("id")
            # Its place is part of the name, so that no refused row is taken for another row with the same id.
            refused.append(Refused(f"{given} ({place})" if given else place, place, str(error)))
            continue
        if item.id not in first:
            first[item.id] = place, row
            items.append(item)
        elif source.every and row == first[item.id][1]:
            repeated += 1
        else:
            refused.append(Refused(f"{item.id} ({place})", place, f"has the id of {first[item.id][0]}"))
    return items, refused, repeated


def _shots(protocol: Protocol, data: str) -> tuple[Item, ...]:
    """As many examples as the protocol has; a row that is no question is no example."""
    task = protocol.task
    if protocol.shots == 0:
        return ()
    if task.shots is None:
        raise UserError(f"{protocol.name}: {task.name} has no file that examples are taken from; ask it with 0 shots")
    items, _, _ = _read(task, task.shots, find_files(task, task.shots, data))
    if not task.shots.in_order:
        items = sorted(items, key=lambda item: _hash(task, item.id))
    if len(items) < protocol.shots:
        raise UserError(f"{protocol.name}: there are {len(items)} examples for {protocol.shots} shots")
    return tuple(items[: protocol.shots])


def _releases(source: Source, sha256: Sequence[str]) -> str | None:
    names = [_release(source, one) for one in sha256]
    return None if None in names else ", ".join(dict.fromkeys(name for name in names if name))


def _release(source: Source, sha256: str) -> str | None:
    return next((one.name for one in source.releases if sha256 in one.sha256), None)


def _first_by_hash(task: Task, ids: Sequence[str], limit: int | None) -> set[str]:
    return set(ids if limit is None else sorted(ids, key=lambda id: _hash(task, id))[:limit])


def _hash(task: Task, id: str) -> bytes:
    return hashlib.sha256(f"{task.name}:{id}".encode()).digest()


def _told(refused: Sequence[Refused]) -> str:
    shown = first_few([f"{entry.id}: {entry.reason}" for entry in refused])
    return f"{len(refused):,} {'row' if len(refused) == 1 else 'rows'} refused: {shown}"
