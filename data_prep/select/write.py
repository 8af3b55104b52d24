"""The last step of ``select``: one file's documents and dropped records, and the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base.storage import write_aside
from data_prep.documents import DOCUMENT_SCHEMA, DROPPED_SCHEMA, read_columns
from data_prep.identifiers import TYPES, name_of
from data_prep.select import boilerplate
from data_prep.select.judge import ROWS, RULES, noted
from data_prep.select.keys import ParsedFile
from data_prep.select.reasons import CODES, IS_DELETION, KEPT, NAMES, REASONS

# By source, the columns that name a record, the first that is filled in; and where it lies in its file, and why.
NAMING: dict[str, list[str]] = {"pubmed": ["pmid"], "pmc": ["pmcid", "doi"]}
PLACES: dict[str, list[str]] = {"pubmed": [], "pmc": ["place", "detail"]}

# Columns with the same values again and again. A dictionary of the others would be built only to be given up.
REPEATED = ["source", "language", "license", "journal", "types.list.element", "source_file"]


@dataclass(frozen=True)
class WriteTask:
    """One file. ``outcomes`` has the fate of each of its candidates."""

    file: ParsedFile
    folder: Path  # of what was judged
    outcomes: bytes
    documents: Path  # folders
    dropped: Path


@dataclass(frozen=True)
class Written:
    """What came of one file: how many rows have which fate (int64[256]), and how often which boilerplate was taken."""

    fates: NDArray[np.int64]
    boilerplate: dict[str, int]


def write_file(task: WriteTask) -> Written:
    """Write one file's documents and dropped records (no file where there are none)."""
    part = task.file.part
    fates = noted(task.folder, part, "fates")
    outcomes = np.frombuffer(task.outcomes, dtype=np.uint8)
    fates[noted(task.folder, part, "rows")] = outcomes
    if (outcomes == KEPT).any():
        _write_documents(task, outcomes == KEPT)
    dropped = np.flatnonzero((fates != KEPT) & (fates != IS_DELETION))
    if len(dropped):
        _write_dropped(task, dropped, fates)
    return Written(np.bincount(fates, minlength=256), dict(noted(task.folder, part, "boilerplate").tolist()))


def _write_documents(task: WriteTask, kept: NDArray[np.bool_]) -> None:
    file, rules = task.file, RULES[task.file.source]
    rows, retracted, has_boilerplate, sha256 = (
        noted(task.folder, file.part, name)[kept] for name in ("rows", "retracted", "has_boilerplate", "sha256")
    )
    with (
        write_aside(task.documents / f"{file.part}.parquet") as aside,
        pq.ParquetWriter(
            aside, DOCUMENT_SCHEMA, compression="zstd", compression_level=1, use_dictionary=REPEATED
        ) as writer,
    ):
        first = 0
        for batch in read_columns(file.rows, rules.TO_WRITE, ROWS[file.source]):
            begin, end = np.searchsorted(rows, [first, first + batch.num_rows])
            if begin < end:
                chosen = batch.take(pa.array(rows[begin:end] - first))
                texts = boilerplate.strip_some(rules.texts(chosen), has_boilerplate[begin:end])
                writer.write_table(_documents(file, chosen, texts, retracted[begin:end], sha256[begin:end]))
            first += batch.num_rows


def _documents(
    file: ParsedFile, rows: pa.RecordBatch, texts: pa.Array, retracted: NDArray[np.bool_], sha256: NDArray[np.uint8]
) -> pa.Table:
    rules = RULES[file.source]
    columns: dict[str, Any] = {
        "id": rules.identifiers(rows),
        "source": pa.repeat(file.source, rows.num_rows),
        "title": _nonempty(rows["title"]),
        "text": texts,
        "journal": _nonempty(rows["journal"]),
        "retracted": pa.array(retracted),
        "source_file": pa.repeat(file.name, rows.num_rows),
        "sha256": _hex(sha256),
        **{name: rows[name] for name in ("version", "year", "pmid", "pmcid", "doi")},
        **rules.own_columns(rows),
    }
    return pa.table([columns[name] for name in DOCUMENT_SCHEMA.names], schema=DOCUMENT_SCHEMA)


def _nonempty(strings: pa.Array) -> pa.Array:
    """Null for what is empty."""
    return pc.if_else(pc.equal(strings, ""), None, strings)


def _hex(digests: NDArray[np.uint8]) -> pa.Array:
    number, size = digests.shape
    places = np.arange(0, 2 * size * (number + 1), 2 * size, dtype=np.int32)
    return pa.StringArray.from_buffers(number, pa.py_buffer(places), pa.py_buffer(digests.tobytes().hex().encode()))


def _write_dropped(task: WriteTask, dropped: NDArray[np.int64], fates: NDArray[np.uint8]) -> None:
    source, file = task.file.source, task.file.name
    rows = pq.read_table(task.file.rows, columns=[*TYPES, *PLACES[source]]).take(pa.array(dropped))
    listed = rows.to_pylist()
    ids = [_name(source, row, file, number) for row, number in zip(listed, dropped.tolist(), strict=True)]
    reasons = [NAMES[fate] for fate in fates[dropped]]
    details = [f"{row['place']}: {row['detail']}" if row.get("detail") else None for row in listed]
    columns = [ids, reasons, [file] * len(ids), *(rows[kind] for kind in TYPES), details]
    table = pa.table(columns, schema=DROPPED_SCHEMA)
    with write_aside(task.dropped / f"{task.file.part}.parquet") as aside:
        pq.write_table(table, aside, compression="zstd")


def _name(source: str, row: dict[str, Any], file: str, number: int) -> str:
    """The record's id, or its place when it has none."""
    names = [name_of(kind, row[kind]) for kind in NAMING[source] if row[kind] is not None]
    return names[0] if names else f"{file}#{row.get('place') or number + 1}"


def make_ledger(
    files: Sequence[ParsedFile], fates: Sequence[NDArray[np.int64]], parsed: dict[str, Any]
) -> dict[str, Any]:
    """``OUT/ledger.json``; in every entry ``in`` is ``kept`` and the sum of the reasons.

    Args:
        parsed: the summary of the stage parse.
    """
    of_files = list(zip(files, fates, strict=True))
    sources = dict.fromkeys(file.source for file in files)
    deletions = {file.name: int(counts[IS_DELETION]) for file, counts in of_files}
    return {
        "total": _entry(np.sum(fates, axis=0)),
        "sources": {
            source: _entry(np.sum([counts for file, counts in of_files if file.source == source], axis=0))
            for source in sources
        },
        "files": {file.name: _entry(counts) for file, counts in of_files},
        "deletions": {name: number for name, number in deletions.items() if number},
        "refused_files": parsed["refused"],
        "unusable_records": parsed["unusable"],
        "warnings": parsed["warnings"],
    }


def _entry(counts: NDArray[np.int64]) -> dict[str, Any]:
    dropped = {reason: int(counts[CODES[reason]]) for reason in REASONS if counts[CODES[reason]]}
    return {"in": int(counts[:IS_DELETION].sum()), "kept": int(counts[KEPT]), "dropped": dropped}
