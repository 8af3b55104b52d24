"""The last step of ``select``: one file's documents and dropped records, and the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base.storage import write_aside
from data_prep.documents import DOCUMENT_SCHEMA, DROPPED_SCHEMA, read_columns
from data_prep.select.judge import ROWS, documents_path, noted
from data_prep.select.keys import ParsedFile
from data_prep.select.reasons import CODES, IS_DELETION, KEPT, NAMES, REASONS

NAMING = {"pubmed": ["pmid"], "pmc": ["pmcid", "doi", "place"]}  # the columns that name a dropped record


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
    path = task.documents / f"{task.file.part}.parquet"
    with (
        write_aside(path) as aside,
        pq.ParquetWriter(aside, DOCUMENT_SCHEMA, compression="zstd", compression_level=1) as writer,
    ):
        first = 0
        judged = documents_path(task.folder, task.file.part)
        for batch in read_columns(judged, DOCUMENT_SCHEMA.names, ROWS[task.file.source]):
            chosen = batch.filter(pa.array(kept[first : first + batch.num_rows]))
            if chosen.num_rows:
                writer.write_batch(chosen)
            first += batch.num_rows


def _write_dropped(task: WriteTask, dropped: NDArray[np.int64], fates: NDArray[np.uint8]) -> None:
    columns = pq.read_table(task.file.rows, columns=NAMING[task.file.source]).take(pa.array(dropped)).to_pylist()
    names = [_name(row, task.file.name, number) for row, number in zip(columns, dropped.tolist(), strict=True)]
    reasons = [NAMES[fate] for fate in fates[dropped]]
    table = pa.table([names, reasons, [task.file.name] * len(names)], schema=DROPPED_SCHEMA)
    with write_aside(task.dropped / f"{task.file.part}.parquet") as aside:
        pq.write_table(table, aside, compression="zstd")


def _name(row: dict[str, Any], file: str, number: int) -> str:
    """The record's id, or its place when it has none."""
    if row.get("pmid") is not None:
        return f"pmid:{row['pmid']}"
    if row.get("pmcid") is not None:
        return f"pmcid:PMC{row['pmcid']}"
    if row.get("doi"):
        return f"doi:{row['doi'].lower()}"
    return f"{file}#{row.get('place') or number + 1}"


def make_ledger(
    files: Sequence[ParsedFile], fates: Sequence[NDArray[np.int64]], refused: list[dict[str, str]]
) -> dict[str, Any]:
    """``OUT/ledger.json``; in every entry ``in`` is ``kept`` and the sum of the reasons."""
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
        "refused_files": refused,
    }


def _entry(counts: NDArray[np.int64]) -> dict[str, Any]:
    dropped = {reason: int(counts[CODES[reason]]) for reason in REASONS if counts[CODES[reason]]}
    return {"in": int(counts[:IS_DELETION].sum()), "kept": int(counts[KEPT]), "dropped": dropped}
