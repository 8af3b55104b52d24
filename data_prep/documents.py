"""The documents that stages hand over: one row of Parquet each, in ``OUT/documents/*.parquet``."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DOCUMENTS, DROPPED, LEDGER = "documents", "dropped", "ledger.json"

DOCUMENT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),  # pmid:123, pmcid:PMC123, or doi:10.… for a full text without a PMCID
        ("source", pa.string()),  # pubmed (title and abstract) or pmc (full text)
        ("version", pa.int32()),
        ("title", pa.string()),  # null when there is none
        ("text", pa.string()),  # title, line feed, abstract; full texts go on with their sections
        ("language", pa.string()),  # pubmed: of the article (eng; fre,eng), whose abstract is English; pmc: of the text (en)
        ("license", pa.string()),  # CC BY, …; null: PubMed names none for its abstracts
        ("year", pa.int32()),
        ("journal", pa.string()),
        ("types", pa.list_(pa.string())),
        ("retracted", pa.bool_()),
        ("source_file", pa.string()),
        ("sha256", pa.string()),  # of the text in UTF-8
        ("pmid", pa.int64()),
        ("doi", pa.string()),
        ("source_md5", pa.string()),  # of a full text's XML: what a takedown notice can be held against
    ]
)
DROPPED_SCHEMA = pa.schema([("id", pa.string()), ("reason", pa.string()), ("source_file", pa.string())])


def parts(folder: Path) -> list[Path]:
    """The files of a folder of Parquet, in their order."""
    return sorted(folder.glob("*.parquet"))


def read_columns(part: Path, columns: Sequence[str], rows: int = 1000) -> Iterator[pa.RecordBatch]:
    """The named columns, so many rows at a time."""
    with pq.ParquetFile(part) as file:
        yield from file.iter_batches(batch_size=rows, columns=list(columns))


def document_hash(identifier: str, purpose: str) -> int:
    """64 bits that depend on the document's id and the purpose alone: the same in every run and for every corpus."""
    return int.from_bytes(hashlib.blake2b(f"{purpose}:{identifier}".encode(), digest_size=8).digest())


def is_validation(identifier: str, val_fraction: float) -> bool:
    """Whether a document is held out: by the hash of its id, so it never changes sides when the corpus grows."""
    return document_hash(identifier, "validation") < int(val_fraction * 2.0**64)
