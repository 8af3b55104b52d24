"""Parsed records as rows of Parquet: one schema for PubMed's citations, one for full texts."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.parse.article import Article, doi_key
from data_prep.parse.pubmed_record import Deletion, Record

PUBMED = pa.schema(
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
PMC = pa.schema(
    [
        ("kind", pa.string()),  # article, or why there is none: see Article
        ("place", pa.string()),
        ("detail", pa.string()),
        ("pmcid", pa.int64()),  # digits
        ("version", pa.int32()),
        ("pmid", pa.int64()),
        ("doi", pa.string()),
        ("doi_hash", pa.uint64()),  # doi_key
        ("title", pa.string()),
        ("text", pa.string()),
        ("body_words", pa.int32()),
        ("language", pa.string()),
        ("language_from", pa.string()),
        ("article_type", pa.string()),
        ("license", pa.string()),
        ("license_from", pa.string()),
        ("retracted", pa.bool_()),
        ("manuscript", pa.bool_()),
        ("historical_ocr", pa.bool_()),
        ("year", pa.int32()),
        ("journal", pa.string()),
        ("subjects", pa.list_(pa.string())),
        ("md5", pa.string()),
    ]
)
NOT_UNUSABLE = ("article", "not_fetched", "gone")  # kinds of full text: all others are faults of what was given
NAMED_AT_MOST = 20  # unusable records of a file that are named on the screen and in the ledger
# Rows are written in groups of at most so many and, but for the last one in it, so many characters of text. The next
# stage reads a group at a time: this is what bounds its memory as well.
CITATIONS_A_GROUP = 2000
ARTICLES_A_GROUP = 200
CHARACTERS_A_GROUP = 16 << 20


@dataclass
class Counts:
    """What was written.

    Attributes:
        unusable: of the records; no document can come of them, for what was given is at fault.
        unreadable: of these, those that may be read in another run.
        named: place and reason of the first of these.
    """

    records: int = 0
    deletions: int = 0
    unusable: int = 0
    unreadable: int = 0
    named: list[dict[str, str]] = field(default_factory=list)

    def add_unusable(self, place: str, reason: str) -> None:
        self.unusable += 1
        if len(self.named) < NAMED_AT_MOST:
            self.named.append({"place": place, "reason": reason})


def write_citations(records: Iterable[Record | Deletion], path: Path) -> Counts:
    """Rows of PUBMED, in the order of the records."""
    counts = Counts()

    def counted() -> Iterable[Record | Deletion]:
        for row, record in enumerate(records, 1):
            if isinstance(record, Deletion):
                counts.deletions += 1
            else:
                counts.records += 1
                if record.kind.startswith("unknown:"):
                    counts.add_unusable(f"#{row}", f"an element {record.kind.partition(':')[2]}, which is no citation")
                elif record.pmid is None:
                    counts.add_unusable(f"#{row}", "a citation without a PMID, or with one that is no number")
            yield record

    with _without_collector():
        _write(counted(), PUBMED, _citations, CITATIONS_A_GROUP, "abstract", path)
    return counts


@contextmanager
def _without_collector() -> Iterator[None]:
    """No record refers back to itself: to look for cycles among the thousands that wait is work for nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def write_articles(articles: Iterable[Article], path: Path) -> Counts:
    """Rows of PMC, in the order of the articles."""
    counts = Counts()

    def counted() -> Iterable[Article]:
        for article in articles:
            counts.records += 1
            if article.kind not in NOT_UNUSABLE:
                counts.add_unusable(article.place, article.detail or article.kind)
                counts.unreadable += article.kind == "unreadable"
            elif article.kind == "article" and article.pmcid is None and not article.doi:
                counts.add_unusable(article.place, "an article with neither a PMCID nor a DOI")
            yield article

    _write(counted(), PMC, _articles, ARTICLES_A_GROUP, "text", path)
    return counts


def _write(
    rows: Iterable[Any], schema: pa.Schema, table: Callable[[list[Any]], pa.Table], group: int, longest: str, path: Path
) -> None:
    """Write a file; ``longest`` is the field with the text."""
    characters = 0
    # Texts are all different; a dictionary of them would be built only to be given up.
    few = [name for name in ("kind", "language", "journal", "license") if name in schema.names]
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=few) as writer:
        waiting: list[Any] = []
        for row in rows:
            waiting.append(row)
            characters += len(getattr(row, longest, ""))
            if len(waiting) == group or characters >= CHARACTERS_A_GROUP:
                writer.write_table(table(waiting))
                waiting, characters = [], 0
        if waiting:
            writer.write_table(table(waiting))


def _citations(rows: list[Record | Deletion]) -> pa.Table:
    columns = zip(*(_of_record(row) if isinstance(row, Record) else _of_deletion(row) for row in rows), strict=True)
    return pa.table([list(column) for column in columns], schema=PUBMED)


_of_record = attrgetter(*PUBMED.names)


def _of_deletion(row: Deletion) -> tuple[Any, ...]:
    given = {"kind": "deletion", "pmid": row.pmid, "version": row.version}
    return tuple(given.get(name) for name in PUBMED.names)


def _articles(rows: list[Article]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        name: [getattr(row, name) for row in rows] for name in PMC.names if name != "doi_hash"
    }
    columns["doi_hash"] = [doi_key(row.doi) if row.doi else None for row in rows]
    return pa.table(columns, schema=PMC)
