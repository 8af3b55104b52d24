"""Documents and tokens by source, licence, year and so on: one pass over ``OUT/documents``, a file a task.

A document's tokens are in ``OUT/mds/*/doc_ids.parquet``, in the order of the shuffled stream. Both meet in a table that
is sorted by the hash of the id and mapped into the memory of every worker: 16 bytes a document on disk.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base.errors import UserError
from base.progress import progress
from data_prep.documents import DOCUMENTS, document_hash, parts, read_columns
from data_prep.shards.packing import SPLITS
from data_prep.shards.stage import DOC_IDS
from data_prep.shards.stage import FOLDER as MDS
from data_prep.stage import Job

BY = ("license", "language", "journal", "year", "types", "length")  # what documents are counted by, within each source
ROWS = 2000  # read at a time: their texts, of articles too, are what bounds a worker's memory
Key = tuple[str, str, str | int | None]  # (one of BY, source, value)


@dataclass(frozen=True)
class CountTask:
    """One file of documents; ``tokens`` is the folder that :func:`index_tokens` wrote."""

    part: Path
    tokens: Path


@dataclass
class Counts:
    """What was counted.

    Attributes:
        documents, tokens: for each value of each of BY; a document of several types counts once for each of them.
        sources: source → [documents, tokens, bytes of text].
        sha256: over the id and the text's hash of every document, in their order.
    """

    documents: Counter[Key]
    tokens: Counter[Key]
    sources: dict[str, list[int]]
    sha256: str

    def rows(self, by: str) -> list[dict[str, Any]]:
        """One row a source and value: most tokens first."""
        rows = [
            {"source": source, "name": value, "documents": number, "tokens": self.tokens[(kind, source, value)]}
            for (kind, source, value), number in self.documents.items()
            if kind == by
        ]
        return sorted(rows, key=lambda row: (-row["tokens"], -row["documents"], row["source"], str(row["name"])))


def index_tokens(job: Job, folder: Path, length: int, separators: int) -> dict[str, int]:
    """Write the table of tokens into ``folder``; returns how many documents the ends of sequences cut.

    Needs about 60 bytes of memory a row of ``doc_ids.parquet``.

    Args:
        length: tokens of a sequence.
        separators: tokens behind each document that belong to none.
    """
    files = [job.local / MDS / split / DOC_IDS for split in SPLITS]
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: no such file; the card counts tokens with it: run the stage shards")
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    key, number, cut = np.empty(rows, np.uint64), np.empty(rows, np.int32), np.empty(rows, np.bool_)
    done = 0
    with progress("card, read doc_ids", rows, "rows") as advance:
        for batch in (batch for path in files for batch in read_columns(path, ["id", "offset", "tokens"], 100_000)):
            here = slice(done, done + len(batch))
            key[here], number[here] = _hashes(batch["id"]), batch["tokens"]
            cut[here] = batch["offset"].to_numpy() + number[here] - separators > length
            done += len(batch)
            advance(len(batch))
    order = np.argsort(key)
    key = key[order]
    number = number[order]
    cut = cut[order]
    del order
    first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))  # a document may have several rows
    pieces = np.diff(np.append(first, len(key)))
    number = np.add.reduceat(number, first, dtype=np.int64)
    cut = np.logical_or.reduceat(cut, first) | (pieces > 1)
    np.save(folder / "keys.npy", key[first])
    np.save(folder / "tokens.npy", number)
    short = number - separators <= length
    return {
        "documents": len(first),
        "cut": int(cut.sum()),
        "short": int(short.sum()),  # they would fit into one sequence
        "short_cut": int((short & cut).sum()),
    }


def count_documents(job: Job, tokens: Path) -> Counts:
    """Count all documents of the job.

    Args:
        tokens: the folder that :func:`index_tokens` wrote.
    """
    files = parts(job.local / DOCUMENTS)
    if not files:
        raise UserError(f"{job.local / DOCUMENTS}: holds no documents; run the stage select")
    found: dict[int, Counts] = {}
    with progress("card, count", len(files), "files") as advance:
        for index, counts in job.executor.map(count_part, [CountTask(path, tokens) for path in files]):
            found[index] = counts
            advance(1)
    total = Counts(Counter(), Counter(), {}, "")
    for _, counts in sorted(found.items()):
        _add(total, counts)
    listing = "".join(found[index].sha256 for index in sorted(found))
    total.sha256 = hashlib.sha256(listing.encode()).hexdigest()
    total.sources = dict(sorted(total.sources.items(), key=lambda item: (item[0] != "pubmed", item[0])))
    return total


def count_part(task: CountTask) -> Counts:
    """Count one file."""
    keys = np.load(task.tokens / "keys.npy", mmap_mode="r")
    numbers = np.load(task.tokens / "tokens.npy", mmap_mode="r")
    counts, names = Counts(Counter(), Counter(), {}, ""), hashlib.sha256()
    columns = ["id", "source", "license", "language", "journal", "year", "types", "text", "sha256"]
    for batch in read_columns(task.part, columns, ROWS):
        tokens = _tokens_of(batch["id"], keys, numbers, task.part)
        for name, digest in zip(batch["id"].to_pylist(), batch["sha256"].to_pylist(), strict=True):
            names.update(f"{name} {digest}\n".encode())
        sizes = pc.binary_length(batch["text"])
        table = pa.table({"source": batch["source"], "tokens": tokens, "bytes": sizes})
        for (source,), numbers_of_it in _grouped(table, ["source"], ["tokens", "bytes"]):
            _add_to(counts.sources, source, numbers_of_it)
        for by in BY:
            for key, (number, its_tokens) in _counted(batch, by, tokens):
                counts.documents[key] += number
                counts.tokens[key] += its_tokens
    counts.sha256 = names.hexdigest()
    return counts


def _tokens_of(ids: pa.Array, keys: NDArray[np.uint64], numbers: NDArray[np.int64], part: Path) -> NDArray[np.int64]:
    wanted = _hashes(ids)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    absent = np.flatnonzero(keys[places] != wanted)
    if len(absent):
        raise UserError(
            f"{part}: {ids[int(absent[0])]} is in no {DOC_IDS} below {MDS}; run the stages select and shards"
        )
    return numbers[places]


def _counted(batch: pa.RecordBatch, by: str, tokens: NDArray[np.int64]) -> Iterator[tuple[Key, list[int]]]:
    source, of = batch["source"], pa.array(tokens)
    if by == "length":  # 2^k to 2^(k+1) - 1 tokens
        value: pa.Array = pa.array(np.frexp(tokens.astype(np.float64))[1] - 1)
    elif by == "types":
        rows = pc.list_parent_indices(batch["types"])
        value, source, of = pc.list_flatten(batch["types"]), source.take(rows), of.take(rows)
    else:
        value = batch[by]
    table = pa.table({"source": source, by: value, "tokens": of})
    for (one, name), numbers in _grouped(table, ["source", by], ["tokens"]):
        yield (by, one, name), numbers


def _grouped(table: pa.Table, by: list[str], summed: list[str]) -> Iterator[tuple[tuple[Any, ...], list[int]]]:
    """Values of ``by`` → rows, and the sum of each column of ``summed``."""
    sums = [(column, "sum") for column in summed]
    for row in table.group_by(by).aggregate([([], "count_all"), *sums]).to_pylist():
        yield tuple(row[name] for name in by), [row["count_all"], *(row[f"{column}_sum"] for column in summed)]


def _add(total: Counts, counts: Counts) -> None:
    total.documents.update(counts.documents)
    total.tokens.update(counts.tokens)
    for source, numbers in counts.sources.items():
        _add_to(total.sources, source, numbers)


def _add_to(sources: dict[str, list[int]], source: str, numbers: list[int]) -> None:
    sources[source] = [a + b for a, b in zip(sources.get(source, [0, 0, 0]), numbers, strict=True)]


def _hashes(ids: pa.Array) -> NDArray[np.uint64]:
    return np.array([document_hash(name, "card") for name in ids.to_pylist()], dtype=np.uint64)
