"""Stage ``parse``: each PubMed file → ``work/parsed/NAME.parquet``, one row a record or deletion, in the file's order.

Beside it, written last, ``NAME.parquet.json``: ``{"key", "records", "deletions", "refused"}``. A file that is refused
(``refused`` is the reason) has no rows: **none of its records is used**, for what a damaged file still shows may be a
half-written record, and which half is missing cannot be known. All other files are used.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from base import storage
from base.errors import UserError
from base.progress import progress, say
from data_prep.download.stage import input_place
from data_prep.parse.pubmed import read_pubmed
from data_prep.parse.pubmed_record import AbstractRules, Deletion, Record
from data_prep.parse.refusal import Refused
from data_prep.parse.sources import Source, find_sources
from data_prep.stage import Job, Stage, digest, remove

VERSION = 2  # of the rules by which text is taken from XML: raise it when they change
FOLDER = "parsed"
ROWS = 5000  # written at a time: what bounds a worker's memory
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),  # article, book, unknown:ELEMENT, or deletion
        ("pmid", pa.int64()),  # null when the record has none
        ("version", pa.int32()),
        ("title", pa.string()),
        ("vernacular_title", pa.string()),
        ("abstract", pa.string()),
        ("truncated", pa.bool_()),
        ("languages", pa.list_(pa.string())),
        ("journal", pa.string()),
        ("year", pa.int32()),
        ("types", pa.list_(pa.string())),
        ("retracted", pa.bool_()),
        ("concern", pa.bool_()),
        ("pmcid", pa.int64()),  # digits of the record's own
        ("any_pmcid", pa.bool_()),  # any PMCID is named, cited works included
        ("doi", pa.string()),
    ]
)


@dataclass(frozen=True)
class ParseTask:
    """One file to parse. ``key`` names its content and the settings."""

    source: Source
    target: Path
    rules: AbstractRules
    key: str


@dataclass(frozen=True)
class Parsed:
    """What came of a file."""

    records: int
    deletions: int
    refused: str | None


def run(job: Job) -> dict[str, Any]:
    """Parse what has not been parsed with these settings yet."""
    settings = job.configuration.parse.pubmed
    folder = job.work / FOLDER
    sources = find_sources(input_place(job))
    tasks = [
        ParseTask(
            source, parsed_path(folder, source.name), AbstractRules(**settings.model_dump()),
            digest([VERSION, source.identity, settings.model_dump()]),
        )
        for source in sources
    ]  # fmt: skip
    _remove_others(folder, [task.target for task in tasks])
    waiting = [task for task in tasks if _outcome(task) is None]
    if len(waiting) < len(tasks):
        say(f"parse: {len(tasks) - len(waiting)} of {len(tasks)} files are parsed already")
    with progress("parse", sum(task.source.size for task in waiting), "bytes") as advance:
        for index, _ in job.executor.map(parse_file, waiting):
            advance(waiting[index].source.size)
    outcomes = {task.source.name: _known(task) for task in tasks}
    refused = [{"name": name, "reason": parsed.refused} for name, parsed in outcomes.items() if parsed.refused]
    if len(refused) == len(outcomes):
        listing = "\n".join(f"  {file['name']}: {file['reason']}" for file in refused)
        raise UserError(f"pubmed={job.configuration.pubmed}: no file could be used\n{listing}")
    records = sum(parsed.records for parsed in outcomes.values())
    deletions = sum(parsed.deletions for parsed in outcomes.values())
    say(f"parse: {records} records and {deletions} deletions from {len(tasks) - len(refused)} files")
    for file in refused:
        say(f"parse: REFUSED {file['name']}: {file['reason']}")
    names = [name for name, parsed in outcomes.items() if not parsed.refused]
    return {"files": names, "records": records, "deletions": deletions, "refused": refused}


def parsed_path(folder: Path, name: str) -> Path:
    """Where the rows of a file lie."""
    return folder / f"{name}.parquet"


def parse_file(task: ParseTask) -> Parsed:
    """Parse one file; its outcome is written beside the rows, last."""
    task.target.parent.mkdir(parents=True, exist_ok=True)
    _marker(task).unlink(missing_ok=True)
    try:
        records, deletions = _parse(task)
        parsed = Parsed(records, deletions, None)
    except Refused as reason:
        task.target.unlink(missing_ok=True)
        parsed = Parsed(0, 0, str(reason))
    storage.write_bytes(str(_marker(task)), json.dumps({"key": task.key, **asdict(parsed)}).encode())
    return parsed


def _parse(task: ParseTask) -> tuple[int, int]:
    local = Path(task.source.location)
    fetched = None
    if storage.is_remote(task.source.location):
        local = fetched = task.target.with_name(f".{task.target.name}.input")
        storage.download(task.source.location, fetched)
    try:
        _check_md5(task.source, local)
        with storage.write_aside(task.target) as aside:
            return _write(read_pubmed(local, task.rules), aside)
    except (FileNotFoundError, PermissionError) as error:
        raise Refused(f"cannot be read: {error.strerror}") from None
    finally:
        if fetched is not None:
            remove(fetched)


def _check_md5(source: Source, local: Path) -> None:
    """Where NLM's checksum lies beside the file, it must fit."""
    side = f"{source.location}.md5"
    if not storage.exists(side):
        return
    text = storage.read_bytes(side).decode("ascii", "replace")
    with open(local, "rb") as file:
        got = hashlib.file_digest(file, "md5").hexdigest()
    if got not in text.lower():
        raise Refused(f"its MD5 is {got}, but {Path(side).name} says {text.strip()[:80]}")


def _write(records: Iterator[Record | Deletion], path: Path) -> tuple[int, int]:
    counts = [0, 0]
    with pq.ParquetWriter(path, SCHEMA, compression="zstd", compression_level=1) as writer:
        rows: list[Record | Deletion] = []
        for record in records:
            counts[isinstance(record, Deletion)] += 1
            rows.append(record)
            if len(rows) == ROWS:
                writer.write_table(_table(rows))
                rows = []
        if rows:
            writer.write_table(_table(rows))
    return counts[0], counts[1]


def _table(rows: list[Record | Deletion]) -> pa.Table:
    columns: dict[str, list[Any]] = {}
    for name in SCHEMA.names:
        columns[name] = [getattr(row, name, None) for row in rows]
    columns["kind"] = [kind or "deletion" for kind in columns["kind"]]
    return pa.table(columns, schema=SCHEMA)


def _marker(task: ParseTask) -> Path:
    return task.target.with_name(f"{task.target.name}.json")


def _outcome(task: ParseTask) -> Parsed | None:
    """The outcome of an earlier run over the same file with the same settings."""
    try:
        outcome = json.loads(_marker(task).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if outcome.pop("key") != task.key or not (outcome["refused"] or task.target.exists()):
        return None
    return Parsed(**outcome)


def _known(task: ParseTask) -> Parsed:
    outcome = _outcome(task)
    assert outcome is not None, task.target
    return outcome


def _remove_others(folder: Path, targets: list[Path]) -> None:
    """Rows of files that are no longer among the input, and what a killed run left."""
    wanted = {*targets, *(target.with_name(f"{target.name}.json") for target in targets)}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def depends_on(job: Job) -> Any:
    """The settings, and every input file as it is now."""
    settings = job.configuration.parse.pubmed.model_dump()
    return [VERSION, settings, [[source.name, source.identity] for source in find_sources(input_place(job))]]


STAGE = Stage("parse", needs=("download",), depends_on=depends_on, run=run, scratch=(FOLDER,))
