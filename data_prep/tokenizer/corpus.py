"""The documents as the tokenizer sees them: what it is trained on, and what is held out to measure it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.documents import document_hash, is_validation
from data_prep.schema import Tokenizer as Settings
from data_prep.tokenizer.encoding import pieces

SOURCES = ("pubmed", "pmc")
ROWS = 1000  # read at a time
MEASURED_DOCUMENTS = 2000  # of a source, at most, on which the rates are measured
MEASURED_BYTES = 4_000_000


@dataclass(frozen=True)
class Choice:
    """Which documents are trained on, and terms counted in: those of some sources, not held out, of hash below a limit.
    Beside a ready tokenizer, terms are counted in as many of all sources."""

    sources: tuple[str, ...]
    purpose: str
    limit: int
    val_fraction: float

    def texts(self, part: Path) -> Iterator[tuple[int, pa.Array]]:
        """Rows read, and the texts chosen from them, some at a time."""
        for rows in _rows(part, self.sources):
            chosen = [self._has(name) for name in rows["id"].to_pylist()]
            yield len(rows), rows["text"].filter(pa.array(chosen, type=pa.bool_()))

    def _has(self, name: str) -> bool:
        return not is_validation(name, self.val_fraction) and (
            self.limit >> 64 > 0 or document_hash(name, self.purpose) < self.limit
        )


class Corpus:
    """All documents. Opening it reads the footers of the files alone."""

    def __init__(self, part_files: Sequence[Path], settings: Settings, val_fraction: float):
        self.parts = part_files
        self.documents = self.size = self.taken = 0
        sources = tuple(settings.train_on) if settings.name is None else SOURCES
        for part in part_files:
            with pq.ParquetFile(part) as file:
                for group in _groups_of(file, sources):
                    metadata = file.metadata.row_group(group)
                    self.documents += metadata.num_rows
                    self.size += metadata.column(file.schema_arrow.names.index("text")).total_uncompressed_size
        share = min(1.0, settings.max_training_bytes / max(1, self.size))
        self.choice = Choice(sources, f"tokenizer-{settings.seed}", int(share * 2.0**64), val_fraction)

    def training_texts(self, advance: Callable[[int], None]) -> Iterator[list[str]]:
        """The texts to train on; counts their bytes in ``taken``."""
        for part in self.parts:
            for rows, texts in self.choice.texts(part):
                advance(rows)
                self.taken += pc.sum(pc.binary_length(texts)).as_py() or 0
                yield [piece for text in texts.to_pylist() for piece in pieces(text)]

    def held_out(self, source: str) -> list[str]:
        """Documents of the validation split, from the first files that have some."""
        return self._first(source, lambda name: is_validation(name, self.choice.val_fraction))

    def first(self, source: str) -> list[str]:
        """The first documents of all."""
        return self._first(source, lambda name: True)

    def _first(self, source: str, wanted: Callable[[str], bool]) -> list[str]:
        texts: list[str] = []
        size = 0
        for part in self.parts:
            for rows in _rows(part, (source,)):
                for name, text in zip(rows["id"].to_pylist(), rows["text"], strict=True):
                    if wanted(name):
                        texts.append(text.as_py()[:MEASURED_BYTES])  # a whole book would take gigabytes
                        size += len(texts[-1].encode())
                        if len(texts) == MEASURED_DOCUMENTS or size >= MEASURED_BYTES:
                            return texts
        return texts


def _rows(part: Path, sources: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """``id`` and ``text`` of the documents of these sources."""
    with pq.ParquetFile(part) as file:
        for group in _groups_of(file, sources):
            for rows in file.iter_batches(ROWS, [group], ["id", "source", "text"]):
                yield rows.filter(pc.is_in(rows["source"], pa.array(sources)))


def _groups_of(file: pq.ParquetFile, sources: Sequence[str]) -> list[int]:
    """The row groups that may hold documents of these sources, by the statistics in the footer."""
    column = file.schema_arrow.names.index("source")  # flat columns only stand before it
    found = []
    for group in range(file.num_row_groups):
        statistics = file.metadata.row_group(group).column(column).statistics
        known = statistics is not None and statistics.has_min_max
        if not known or any(statistics.min <= source <= statistics.max for source in sources):
            found.append(group)
    return found
