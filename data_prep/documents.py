"""The documents that stages hand over: one row of Parquet each, in ``OUT/documents/*.parquet``."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

DOCUMENTS, DROPPED, LEDGER = "documents", "dropped", "ledger.json"

DOCUMENT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # pmid:123, pmcid:PMC123, or doi:10.… for a full text without a PMCID
        ("source", pa.string()),  # pubmed (title and abstract) or pmc (full text)
        ("version", pa.int32()),
        ("title", pa.string()),  # null when there is none
        ("text", pa.string()),  # title, line feed, abstract; full texts go on with their sections
        (
            "language",
            pa.string(),
        ),  # pubmed: of the article (eng; fre,eng), abstracts are English; pmc: en
        ("license", pa.string()),  # CC BY, …; null: PubMed names none for its abstracts
        ("year", pa.int32()),
        ("journal", pa.string()),
        ("types", pa.list_(pa.string())),
        ("retracted", pa.bool_()),
        ("source_file", pa.string()),
        ("sha256", pa.string()),  # of the text in UTF-8
        ("pmid", pa.int64()),  # all its names, as trace looks for them
        ("pmcid", pa.int64()),
        ("doi", pa.string()),
        ("source_md5", pa.string()),  # of a full text's XML: what a takedown notice can be held against
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # or its place where it has none
        ("reason", pa.string()),
        ("source_file", pa.string()),
        ("pmid", pa.int64()),  # all its names, as trace looks for them
        ("pmcid", pa.int64()),
        ("doi", pa.string()),
        ("detail", pa.string()),  # of a full text that could not be read: where it lies in its file, and why
    ]
)


def parts(folder: Path) -> list[Path]:
    """The files of a folder of Parquet, in their order."""
    return sorted(folder.glob("*.parquet"))


def read_columns(part: Path, columns: Sequence[str], rows: int = 1000) -> Iterator[pa.RecordBatch]:
    """The named columns, at most so many rows at a time, and never of two row groups: whoever writes long texts keeps
    the groups small."""
    with pq.ParquetFile(part) as file:
        for group in range(file.num_row_groups):
            yield from file.iter_batches(rows, [group], list(columns))


def document_hash(identifier: str, purpose: str) -> int:
    """64 bits that depend on the document's id and the purpose alone: the same in every run and for every corpus."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}:{identifier}".encode(), digest_size=8).digest())


def document_keys(identifiers: Iterable[str]) -> NDArray[np.uint64]:
    """128 bits that stand for each document's id: uint64[documents, 2], the same in every run and for every corpus.

    The first word decides the split (:func:`held_out`); of the second the order is made (:func:`mixed`). Both together
    tell one document from another where millions are compared.
    """
    return np.frombuffer(b"".join(map(_digest, identifiers)), dtype="<u8").reshape(-1, 2)


def held_out(keys: NDArray[np.uint64], val_fraction: float) -> NDArray[np.bool_]:
    """Which documents are for validation: :func:`is_validation` for many keys at once."""
    return keys[:, 0] < np.uint64(_limit(val_fraction))


def is_validation(identifier: str, val_fraction: float) -> bool:
    """Whether a document is held out: by the hash of its id, so it never changes sides when the corpus grows."""
    return int.from_bytes(_digest(identifier)[:8], "little") < _limit(val_fraction)


def mixed(words: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Other 64 bits for each word, by a one-to-one map that the seed chooses (the finaliser of splitmix64)."""
    if seed:
        words = words ^ mixed(np.array([seed % 2**64], dtype=np.uint64), 0)
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _digest(identifier: str) -> bytes:
    return hashlib.blake2b(identifier.encode(), digest_size=16).digest()


def _limit(val_fraction: float) -> int:
    return int(val_fraction * 2.0**64)
