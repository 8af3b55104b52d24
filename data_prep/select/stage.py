"""Stage ``select``: parsed records → ``OUT/documents``, ``OUT/dropped`` and ``OUT/ledger.json``.

Every record that came in ends in one place, as a document or as a dropped one with its reason:

====================  ==========================================================================
no_pmid               it carries no PMID, or none that is a number
unknown_element       an element that NLM's DTD does not know, where records stand
replaced              a later record of the same PMID and version took its place
older_version         another version of the same PMID is higher
deleted               NLM deleted it
empty                 neither title nor abstract
title_only            no abstract (``select.require_abstract``)
retracted             retracted (``select.drop_retracted``)
language              none of the article's languages is wanted (``select.languages``)
duplicate             the same text as a document with a lower PMID
====================  ==========================================================================

The first reason that holds is the one that counts, in this order. Records of refused files are not counted, for their
number cannot be known; the ledger lists these files under ``refused_files``, and under ``deletions`` how many
citations each file ordered to delete.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base.errors import UserError
from base.progress import progress, say
from base.storage import write_bytes
from data_prep.documents import DOCUMENT_SCHEMA, DOCUMENTS, DROPPED, DROPPED_SCHEMA, LEDGER
from data_prep.parse.stage import FOLDER, parsed_path
from data_prep.select.fold import DELETED, OLDER_VERSION, REPLACED, fold
from data_prep.stage import Job, Stage

VERSION = 1  # raise it when a rule changes
REASONS = (
    "", "no_pmid", "unknown_element", "replaced", "older_version", "deleted", "empty", "title_only", "retracted",
    "language", "duplicate",
)  # fmt: skip
KEPT, DUPLICATE, IS_DELETION = 0, REASONS.index("duplicate"), 255
OF_FOLD = {
    REPLACED: REASONS.index("replaced"),
    OLDER_VERSION: REASONS.index("older_version"),
    DELETED: REASONS.index("deleted"),
}


@dataclass(frozen=True)
class FileTask:
    """One parsed file. ``fates`` has an index into REASONS for each row, as far as it is decided."""

    name: str
    rows: Path
    fates: bytes
    require_abstract: bool
    drop_retracted: bool
    languages: tuple[str, ...] | None
    documents: Path
    dropped: Path


def run(job: Job) -> dict[str, Any]:
    """Decide about every record, then write."""
    parsed = job.marker("parse")["summary"]
    names: list[str] = parsed["files"]
    settings = job.configuration.select
    pmids, fates = _fold(job.work / FOLDER, names)
    with job.building(DOCUMENTS) as documents, job.building(DROPPED) as dropped:

        def tasks() -> list[FileTask]:
            return [
                FileTask(
                    name, parsed_path(job.work / FOLDER, name), fates[index].tobytes(), settings.require_abstract,
                    settings.drop_retracted, None if settings.languages is None else tuple(settings.languages),
                    documents / _part_name(index, name), dropped / _part_name(index, name),
                )
                for index, name in enumerate(names)
            ]  # fmt: skip

        digests: dict[int, NDArray[np.void]] = {}
        with progress("select, decide", len(names), "files") as advance:
            for index, (decided, digest) in job.executor.map(judge_file, tasks()):
                fates[index], digests[index] = np.frombuffer(decided, dtype=np.uint8).copy(), digest
                advance(1)
        _drop_duplicates(pmids, fates, [digests[index] for index in range(len(names))])
        with progress("select, write", len(names), "files") as advance:
            for _ in job.executor.map(write_file, tasks()):
                advance(1)
        ledger = _ledger(names, fates, parsed["refused"])
        if not ledger["total"]["kept"]:
            raise UserError(f"no document is left: {ledger['total']['in']} records, {ledger['total']['dropped']}")
    write_bytes(str(job.local / LEDGER), (json.dumps(ledger, indent=1) + "\n").encode())
    total = ledger["total"]
    drops = ", ".join(f"{number} {reason}" for reason, number in total["dropped"].items())
    say(f"select: {total['kept']} documents from {total['in']} records" + (f"; dropped {drops}" if drops else ""))
    return total


def _part_name(index: int, name: str) -> str:
    stem = name.rpartition("/")[2].removesuffix(".gz").removesuffix(".xml")
    return f"{index:05d}-{stem}.parquet"


def _fold(folder: Path, names: list[str]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.uint8]]]:
    """For each file: the PMID of each row (-1 for none), and what the other files make of it."""
    pmids, versions, kinds, lengths = [], [], [], []
    for name in names:
        table = pq.read_table(parsed_path(folder, name), columns=["pmid", "version", "kind"])
        pmids.append(table["pmid"].fill_null(-1).to_numpy())
        versions.append(table["version"].to_numpy())
        kinds.append(np.array([_early_fate(kind) for kind in table["kind"].to_pylist()], dtype=np.uint8))
        lengths.append(len(table))
    pmid, fate = np.concatenate(pmids), np.concatenate(kinds)
    fate[(pmid < 0) & (fate == KEPT)] = REASONS.index("no_pmid")
    known = (pmid >= 0) & ((fate == KEPT) | (fate == IS_DELETION))
    file = np.repeat(np.arange(len(names), dtype=np.int32), lengths)
    folded = fold(pmid[known], np.concatenate(versions)[known], file[known], fate[known] == IS_DELETION)
    for outcome, reason in OF_FOLD.items():
        fate[np.flatnonzero(known)[folded == outcome]] = reason
    cuts = np.cumsum(lengths)[:-1]
    return np.split(pmid, cuts), np.split(fate, cuts)


def _early_fate(kind: str) -> int:
    if kind == "deletion":
        return IS_DELETION
    return REASONS.index("unknown_element") if kind.startswith("unknown:") else KEPT


def judge_file(task: FileTask) -> tuple[bytes, NDArray[np.void]]:
    """Apply the rules that look at one record; returns the fates and the first 16 bytes of each kept text's sha256."""
    fates = np.frombuffer(task.fates, dtype=np.uint8).copy()
    columns = ["title", "abstract", "languages", "retracted"]
    table = pq.read_table(task.rows, columns=columns).take(pa.array(np.flatnonzero(fates == KEPT)))
    digests = []
    rows = zip(*(table[name].to_pylist() for name in columns), strict=True)
    for row, (title, abstract, languages, retracted) in zip(np.flatnonzero(fates == KEPT), rows, strict=True):
        reason = _reason(task, title, abstract, languages, retracted)
        fates[row] = REASONS.index(reason)
        if not reason:
            digests.append(hashlib.sha256(document_text(title, abstract).encode()).digest()[:16])
    return fates.tobytes(), np.array(digests, dtype="V16")


def _reason(task: FileTask, title: str, abstract: str, languages: list[str], retracted: bool) -> str:
    if not title and not abstract:
        return "empty"
    if task.require_abstract and not abstract:
        return "title_only"
    if task.drop_retracted and retracted:
        return "retracted"
    if task.languages is not None and not set(task.languages) & set(languages):
        return "language"
    return ""


def document_text(title: str, abstract: str) -> str:
    """Title, line feed, abstract, as in The Pile; one alone when the other is missing."""
    return f"{title}\n{abstract}" if title and abstract else title or abstract


def _drop_duplicates(
    pmids: list[NDArray[np.int64]], fates: list[NDArray[np.uint8]], digests: list[NDArray[np.void]]
) -> None:
    """Of the documents with one text, the lowest PMID stays. Changes ``fates``."""
    kept = [np.flatnonzero(fate == KEPT) for fate in fates]
    pmid = np.concatenate([numbers[rows] for numbers, rows in zip(pmids, kept, strict=True)])
    halves = np.concatenate(digests).view(np.uint64).reshape(-1, 2)
    order = np.lexsort((pmid, halves[:, 1], halves[:, 0]))
    again = np.zeros(len(order), dtype=bool)
    again[order[1:]] = (halves[order[1:]] == halves[order[:-1]]).all(axis=1)
    per_file = np.split(again, np.cumsum([len(rows) for rows in kept])[:-1])
    for fate, rows, marks in zip(fates, kept, per_file, strict=True):
        fate[rows[marks]] = DUPLICATE


def write_file(task: FileTask) -> None:
    """Write one file's documents and dropped records (no file where there are none)."""
    fates = np.frombuffer(task.fates, dtype=np.uint8)
    table = pq.read_table(task.rows)
    kept = table.take(pa.array(np.flatnonzero(fates == KEPT)))
    if len(kept):
        pq.write_table(_documents(kept, task.name), task.documents, compression="zstd", row_group_size=10_000)
    dropped = np.flatnonzero((fates != KEPT) & (fates != IS_DELETION))
    if len(dropped):
        pmids = table["pmid"].take(pa.array(dropped)).to_pylist()
        places = [
            f"pmid:{pmid}" if pmid is not None else f"{task.name}#{row + 1}"
            for pmid, row in zip(pmids, dropped, strict=True)
        ]
        columns = [places, [REASONS[fates[row]] for row in dropped], [task.name] * len(dropped)]
        pq.write_table(pa.table(columns, schema=DROPPED_SCHEMA), task.dropped, compression="zstd")


def _documents(kept: pa.Table, source_file: str) -> pa.Table:
    number = len(kept)
    titles, abstracts = kept["title"].to_pylist(), kept["abstract"].to_pylist()
    texts = [document_text(title, abstract) for title, abstract in zip(titles, abstracts, strict=True)]
    columns = {
        "id": [f"pmid:{pmid}" for pmid in kept["pmid"].to_pylist()],
        "source": ["pubmed"] * number,
        "version": kept["version"],
        "title": [title or None for title in titles],
        "text": texts,
        "language": [",".join(languages) or None for languages in kept["languages"].to_pylist()],
        "license": [None] * number,
        "year": kept["year"],
        "journal": [journal or None for journal in kept["journal"].to_pylist()],
        "types": kept["types"],
        "retracted": kept["retracted"],
        "source_file": [source_file] * number,
        "sha256": [hashlib.sha256(text.encode()).hexdigest() for text in texts],
    }
    return pa.table(columns, schema=DOCUMENT_SCHEMA)


def _ledger(names: list[str], fates: list[NDArray[np.uint8]], refused: list[dict[str, str]]) -> dict[str, Any]:
    files = {name: _entry(fate) for name, fate in zip(names, fates, strict=True)}
    deletions = {name: int((fate == IS_DELETION).sum()) for name, fate in zip(names, fates, strict=True)}
    return {
        "total": _entry(np.concatenate(fates)),
        "files": files,
        "deletions": {name: number for name, number in deletions.items() if number},
        "refused_files": refused,
    }


def _entry(fate: NDArray[np.uint8]) -> dict[str, Any]:
    counts = np.bincount(fate, minlength=256)
    dropped = {reason: int(counts[index]) for index, reason in enumerate(REASONS) if reason and counts[index]}
    return {"in": int(counts[:IS_DELETION].sum()), "kept": int(counts[KEPT]), "dropped": dropped}


def depends_on(job: Job) -> Any:
    """The settings."""
    return [VERSION, job.configuration.select.model_dump()]


STAGE = Stage("select", needs=("parse",), depends_on=depends_on, run=run, outputs=(DOCUMENTS, DROPPED, LEDGER))
