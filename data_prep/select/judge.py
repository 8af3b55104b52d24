"""One file of parsed rows: every rule that looks at one record, and what the rules that look at all will need.

For a part NAME, below one folder, the last one last:

============================  ========================================================================================
``NAME.signatures.npy``       the MinHash signatures of the candidates, the rows that break no rule, and
``NAME.bands.npy``            the keys of these signatures' bands (both with ``near_duplicates`` only)
``NAME.npz``                  the fate of every row of the file; identifiers and digests of the candidates; what was
                              found of benchmarks; how often each boilerplate rule took something away
============================  ========================================================================================

No text is written: ``write.py`` makes the documents from the parsed rows again.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from base.storage import write_aside
from data_prep.arrays import save_array
from data_prep.documents import read_columns
from data_prep.schema import Select
from data_prep.select import abstracts, boilerplate, full_texts, near_duplicates, quality
from data_prep.select.contamination import HIT, Benchmarks, Hits
from data_prep.select.keys import ParsedFile, flags
from data_prep.select.known_articles import KnownArticles
from data_prep.select.reasons import CODES, KEPT
from data_prep.select.words import Words, chosen, utf8_of, words_of

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


def signatures_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.signatures.npy"


def bands_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.bands.npy"


def judge_file(task: JudgeTask) -> None:
    """Look at every record that identifiers have left over."""
    judging = _Judging(task)
    first = 0
    for batch in read_columns(task.file.rows, judging.rules.TO_JUDGE, ROWS[task.file.source]):
        judging.batch(batch, first)
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
            name: []
            for name in ("rows", "sha256", "pmid", "pmcid", "doi", "retracted", "has_boilerplate", "signatures")
        }

    def batch(self, batch: pa.RecordBatch, first: int) -> None:
        """Decide about some rows; ``first`` is the number of the first one in the file."""
        settings = self.task.settings
        rows = first + np.arange(batch.num_rows)
        batch, rows, _ = self._left(batch, rows, self.fates[rows])
        excluded = np.where(self.known.excluded.carried_by(batch), np.uint8(CODES["excluded"]), np.uint8(KEPT))
        batch, rows, _ = self._left(batch, rows, excluded)
        batch = self.known.marked(batch)
        batch, rows, _ = self._left(batch, rows, self.rules.judge(batch, settings))

        texts = self.rules.texts(batch)
        words = words_of(texts)
        has_boilerplate = np.zeros(len(texts), dtype=bool)
        if settings.boilerplate:
            texts, words, taken = boilerplate.strip_all(texts, words)
            has_boilerplate[list(taken)] = True
            for counts in taken.values():
                self.boilerplate.update(counts)
        codes = quality.check(texts, words, settings.quality)
        codes[flags(pc.equal(texts, ""))] = CODES["empty"]
        batch, rows, left = self._left(batch, rows, codes)
        if not left.all():
            texts, words, has_boilerplate = texts.filter(pa.array(left)), chosen(words, left), has_boilerplate[left]
        self.columns["has_boilerplate"].append(has_boilerplate)
        self._keep(batch, rows, texts, words)

    def _left(
        self, batch: pa.RecordBatch, rows: NDArray[np.int64], codes: NDArray[np.uint8]
    ) -> tuple[pa.RecordBatch, NDArray[np.int64], NDArray[np.bool_]]:
        """Note the fates of some rows; return those that are left, their numbers, and which they are."""
        self.fates[rows] = codes
        left = codes == KEPT
        return (batch, rows, left) if left.all() else (batch.filter(pa.array(left)), rows[left], left)

    def _keep(self, batch: pa.RecordBatch, rows: NDArray[np.int64], texts: pa.Array, words: Words) -> None:
        columns = self.columns
        pmids, pmcids = (batch[kind].fill_null(-1).to_numpy(zero_copy_only=False) for kind in ("pmid", "pmcid"))
        if self.benchmarks is not None:
            self.hits += [
                self.benchmarks.scan(words, self.candidates),
                self.benchmarks.scan_pmids(self.known.context_pmids(pmids, pmcids), self.candidates),
            ]
        self.candidates += len(texts)
        columns["rows"].append(rows)
        columns["sha256"].append(_sha256(texts))
        columns["pmid"].append(pmids)
        columns["pmcid"].append(pmcids)
        columns["doi"].append(self.rules.doi_keys(batch))
        columns["retracted"].append(flags(batch["retracted"]))
        near = self.task.settings.near_duplicates
        if near is not None:
            columns["signatures"].append(near_duplicates.signatures(words, near))

    def save(self) -> None:
        folder, part, near = self.task.folder, self.task.file.part, self.task.settings.near_duplicates
        pieces = self.columns.pop("signatures")
        if near is not None:
            signatures = np.concatenate(pieces)
            save_array(signatures_path(folder, part), signatures)
            save_array(bands_path(folder, part), near_duplicates.band_keys(signatures, near))
        arrays = {name: np.concatenate(column) for name, column in self.columns.items()}
        arrays |= {"fates": self.fates, "hits": np.concatenate(self.hits)}
        arrays["boilerplate"] = np.array(sorted(self.boilerplate.items()), dtype=[("rule", "U64"), ("times", "i8")])
        with write_aside(results_path(folder, part)) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)


def noted(folder: Path, part: str, name: str) -> NDArray[Any]:
    """One array of those that :func:`judge_file` has noted of a file.

    ``fates``: uint8, one a row of the file. Of the candidates: ``rows`` (in the file), ``sha256`` (of their texts:
    uint8[candidates, 32]), ``pmid`` and ``pmcid`` (-1 for none), ``doi`` (see
    :func:`data_prep.parse.article.doi_key`; 0 for none), ``retracted`` (by any record of the article),
    ``has_boilerplate`` (which the document goes without), ``hits`` (of benchmarks; ``document`` counts the
    candidates). ``boilerplate`` (rule, times): of all rows.
    """
    with np.load(results_path(folder, part)) as arrays:
        return arrays[name]


def _sha256(texts: pa.Array) -> NDArray[np.uint8]:
    """uint8[texts, 32]"""
    data, offsets = utf8_of(texts)
    digests = [hashlib.sha256(data.data[begin:end]).digest() for begin, end in pairwise(offsets.tolist())]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
