"""One file of parsed rows: every rule that looks at one record, and what the rules that look at all will need.

For a part NAME, below one folder, the last one last:

============================  ========================================================================================
``NAME.documents.parquet``    the candidates: rows that break no rule, as documents
``NAME.signatures.npy``       their MinHash signatures, and
``NAME.bands.npy``            the keys of these signatures' bands (both with ``near_duplicates`` only)
``NAME.npz``                  the fate of every row of the file; identifiers and digests of the candidates; what was
                              found of benchmarks; how often each boilerplate rule took something away
============================  ========================================================================================
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base.storage import write_aside
from data_prep.documents import DOCUMENT_SCHEMA, read_columns
from data_prep.schema import Select
from data_prep.select import abstracts, boilerplate, full_texts, near_duplicates, quality
from data_prep.select.contamination import HIT, Benchmarks, Hits
from data_prep.select.keys import ParsedFile
from data_prep.select.known_articles import KnownArticles
from data_prep.select.reasons import CODES, KEPT
from data_prep.select.words import Words, words_of

RULES: dict[str, ModuleType] = {"pubmed": abstracts, "pmc": full_texts}
ROWS = {"pubmed": 1000, "pmc": 200}  # at a time: a few megabytes of text


@dataclass(frozen=True)
class JudgeTask:
    """One file. ``fates`` are those that identifiers have decided already."""

    file: ParsedFile
    fates: bytes
    folder: Path
    settings: Select
    known: Path  # of KnownArticles
    benchmarks: Path | None


def results_path(folder: Path, part: str) -> Path:
    """The file that is written last."""
    return folder / f"{part}.npz"


def documents_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.documents.parquet"


def signatures_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.signatures.npy"


def bands_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.bands.npy"


def judge_file(task: JudgeTask) -> None:
    """Look at every record that identifiers have left over."""
    judging = _Judging(task)
    with (
        write_aside(documents_path(task.folder, task.file.part)) as aside,
        pq.ParquetWriter(aside, DOCUMENT_SCHEMA, compression="zstd", compression_level=1) as writer,
    ):
        first = 0
        for batch in read_columns(task.file.rows, judging.rules.COLUMNS, ROWS[task.file.source]):
            documents = judging.batch(batch, first)
            if len(documents):
                writer.write_table(documents)
            first += batch.num_rows
    judging.save()


class _Judging:
    def __init__(self, task: JudgeTask):
        self.task = task
        self.rules = RULES[task.file.source]
        self.fates = np.frombuffer(task.fates, dtype=np.uint8).copy()
        self.known = KnownArticles.open(task.known)
        self.benchmarks = Benchmarks.open(task.benchmarks) if task.benchmarks else None
        self.candidates = 0
        self.hits: list[Hits] = [np.empty(0, dtype=HIT)]
        self.boilerplate: Counter[str] = Counter()
        self.columns: dict[str, list[NDArray[Any]]] = {
            name: [] for name in ("rows", "digest", "pmid", "pmcid", "doi", "signatures")
        }

    def batch(self, batch: pa.RecordBatch, first: int) -> pa.Table:
        """Decide about some rows; ``first`` is the number of the first one in the file. Returns the candidates."""
        settings = self.task.settings
        rows = first + np.flatnonzero(self.fates[first : first + batch.num_rows] == KEPT)
        batch = batch.take(pa.array(rows - first))
        excluded = self.known.excluded.carried_by(batch)
        batch, rows, _ = self._drop(batch, rows, ["excluded" if one else "" for one in excluded])
        batch = self.known.marked(batch)
        batch, rows, _ = self._drop(batch, rows, self.rules.judge(batch, settings))

        texts = self.rules.texts(batch)
        words = words_of(texts)
        if settings.boilerplate:
            texts, words, taken = boilerplate.strip_all(texts, words)
            for counts in taken.values():
                self.boilerplate.update(counts)
        reasons = ["empty" if not text else broken or "" for text, broken in zip(
            texts, quality.check(texts, words, settings.quality), strict=True)]  # fmt: skip
        left = [place for place, reason in enumerate(reasons) if not reason]
        batch, rows, texts = self._drop(batch, rows, reasons, texts)
        return self._keep(batch, rows, texts, words if len(left) == len(reasons) else words_of(texts))

    def _drop(
        self, batch: pa.RecordBatch, rows: NDArray[np.int64], reasons: Sequence[str], texts: Sequence[str] = ()
    ) -> tuple[pa.RecordBatch, NDArray[np.int64], list[str]]:
        """Note the reasons, and go on with the rows that have none."""
        codes = np.array([CODES[reason] if reason else KEPT for reason in reasons], dtype=np.uint8)
        self.fates[rows] = codes
        left = np.flatnonzero(codes == KEPT)
        return batch.take(pa.array(left)), rows[left], [texts[place] for place in left] if texts else []

    def _keep(self, batch: pa.RecordBatch, rows: NDArray[np.int64], texts: list[str], words: Words) -> pa.Table:
        columns = self.columns
        pmids, pmcids = (batch[kind].fill_null(-1).to_numpy(zero_copy_only=False) for kind in ("pmid", "pmcid"))
        if self.benchmarks is not None:
            self.hits += [
                self.benchmarks.scan(words, self.candidates),
                self.benchmarks.scan_pmids(self.known.context_pmids(pmids, pmcids), self.candidates),
            ]
        self.candidates += len(texts)
        digests = [hashlib.sha256(text.encode()) for text in texts]
        columns["rows"].append(rows)
        columns["digest"].append(np.array([digest.digest()[:16] for digest in digests], dtype="V16"))
        columns["pmid"].append(pmids)
        columns["pmcid"].append(pmcids)
        columns["doi"].append(self.rules.doi_keys(batch))
        near = self.task.settings.near_duplicates
        if near is not None:
            columns["signatures"].append(near_duplicates.signatures(words, near))
        return self._documents(batch, texts, [digest.hexdigest() for digest in digests])

    def _documents(self, batch: pa.RecordBatch, texts: list[str], digests: list[str]) -> pa.Table:
        """The rows as documents."""
        columns: dict[str, Any] = {
            "id": self.rules.identifiers(batch),
            "source": [self.task.file.source] * batch.num_rows,
            "title": [title or None for title in batch["title"].to_pylist()],
            "text": texts,
            "journal": [journal or None for journal in batch["journal"].to_pylist()],
            "source_file": [self.task.file.name] * batch.num_rows,
            "sha256": digests,
            **{name: batch[name] for name in ("version", "year", "retracted", "pmid", "pmcid", "doi")},
            **self.rules.own_columns(batch),
        }
        return pa.table([columns[name] for name in DOCUMENT_SCHEMA.names], schema=DOCUMENT_SCHEMA)

    def save(self) -> None:
        folder, part, near = self.task.folder, self.task.file.part, self.task.settings.near_duplicates
        pieces = self.columns.pop("signatures")
        if near is not None:
            signatures = np.concatenate(pieces)
            _save(signatures_path(folder, part), signatures)
            _save(bands_path(folder, part), near_duplicates.band_keys(signatures, near))
        arrays = {name: np.concatenate(column) for name, column in self.columns.items()}
        arrays |= {"fates": self.fates, "hits": np.concatenate(self.hits)}
        arrays["boilerplate"] = np.array(sorted(self.boilerplate.items()), dtype=[("rule", "U64"), ("times", "i8")])
        with write_aside(results_path(folder, part)) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)


def noted(folder: Path, part: str, name: str) -> NDArray[Any]:
    """One array of those that :func:`judge_file` has noted of a file.

    ``fates``: uint8, one a row of the file. Of the candidates: ``rows`` (in the file), ``digest`` (V16: the sha256 of
    their texts, cut), ``pmid`` and ``pmcid`` (-1 for none), ``doi`` (see :func:`data_prep.parse.article.doi_key`; 0 for
    none), ``hits`` (of benchmarks; ``document`` counts the candidates). ``boilerplate`` (rule, times): of all rows.
    """
    with np.load(results_path(folder, part)) as arrays:
        return arrays[name]


def _save(path: Path, array: NDArray[np.generic]) -> None:
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.save(file, array)
