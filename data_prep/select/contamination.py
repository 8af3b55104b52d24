"""Documents that hold text of the questions that models are scored on.

Three ways to be hit, kept apart because they mean different things:

- ``question``: a run of 13 words (the length that GPT-3 and most since have taken) of a question or of one of its
  options. Such a document may give the answer away.
- ``context``: such a run of what the question is asked about. The contexts of PubMedQA and BioASQ are parts of PubMed's
  abstracts, so a document hit this way is often that very abstract, or another that says the same.
- ``pmid``: the document is the abstract that PubMedQA asks about, or one on which BioASQ's answer rests.

A question (or context) of 8 to 12 words is one run of its own length; a shorter one could be anywhere, and is not
looked for. Options are looked for from 13 words on. A run that is in the questions of three items or more of a set
is a stock phrase, such as how examiners begin, and says nothing about a document: it is left out. (Of contexts none is:
in BioASQ's, what three items share is the very sentence that they are asked about.) And a run that more than ten
documents of the corpus hold is a phrase of its authors ("the aim of this study was to evaluate the efficacy and safety
of"): see :func:`without_phrases`. GPT-3's authors drew that line, at ten (Brown et al. 2020, appendix C).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from base.storage import write_aside
from data_prep.select.benchmarks_text import NAMES, Item, read_questions
from data_prep.select.run_filter import RunFilter
from data_prep.select.words import Words, begins_of_runs, runs_beginning_at, words_of

SHORTEST = 8  # words of a question that is looked for as a whole
STOCK = 3  # items of a benchmark
PHRASE = 10  # documents of the corpus
BY = ("question", "context", "pmid")
QUESTION, CONTEXT, PMID = range(3)
HIT = np.dtype([("document", np.int64), ("item", np.int32), ("by", np.uint8), ("run", np.int32)])

Hits = NDArray[np.void]  # of HIT
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Runs:
    """Every run of one length that is looked for.

    Attributes:
        hashes: sorted, each once.
        starts: run ``i`` is in the fields ``entries[starts[i]:starts[i + 1]]``.
        entries: ``2 * item + by`` each.
        first: the number of the first run, when those of all lengths are numbered on end.
    """

    length: int
    first: int
    hashes: Hashes
    starts: NDArray[np.int64]
    entries: NDArray[np.int32]

    def among(self, words: Words, begins: NDArray[np.int64], document: NDArray[np.int64]) -> Hits:
        """Which of them begin at one of these words, each of which is in the document given with it."""
        inside = begins + self.length <= words.offsets[document + 1]
        runs = runs_beginning_at(words, self.length, begins[inside])
        place = np.searchsorted(self.hashes, runs)
        place[place == len(self.hashes)] = 0
        found = self.hashes[place] == runs
        document, place = document[inside][found], place[found]

        number = self.starts[place + 1] - self.starts[place]
        entries = self.entries[_spread(self.starts[place], number)]
        return _hits(np.repeat(document, number), entries // 2, entries % 2, np.repeat(self.first + place, number))


@dataclass(frozen=True)
class Benchmarks:
    """All that is looked for. May be pickled; :meth:`save` and :meth:`open` bring it to other processes by a file.

    Attributes:
        names: the benchmark and the id of each item.
        beginnings: which runs may be the first words of what is looked for.
        runs: by length.
        looked_for: for each item, in which of the ways of BY anything of it is looked for.
        stock: by benchmark, how many runs were left out as stock phrases.
        pmid, item: pairs, sorted: the abstract is a context of the item.
        files: by benchmark, those that were read; ``left_out``, the others in the folder.
    """

    names: list[tuple[str, str]]
    beginnings: RunFilter
    runs: list[Runs]
    looked_for: NDArray[np.bool_]
    stock: dict[str, int]
    pmid: NDArray[np.int64]
    item: NDArray[np.int32]
    files: dict[str, list[str]]
    left_out: list[str]

    @classmethod
    def load(cls, folder: Path, ngram: int) -> "Benchmarks":
        """Read the official files below ``folder``. Raises what :func:`read_questions` raises."""
        questions = read_questions(folder)
        beginnings, runs, looked_for, stock = _runs_of_items(questions.items, ngram)
        pairs = [(pmid, place) for place, item in enumerate(questions.items) for pmid in item.pmids]
        pmids = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
        pmid, item = pmids[:, 0].copy(), pmids[:, 1].astype(np.int32)
        looked_for[item, PMID] = True
        names = [(item.benchmark, item.id) for item in questions.items]
        return cls(names, beginnings, runs, looked_for, stock, pmid, item, questions.files, questions.left_out)

    def save(self, path: Path) -> None:
        """Write everything into one file (``.npz``)."""
        about = {
            "names": self.names, "stock": self.stock, "files": self.files, "left_out": self.left_out,
            "shortest": self.beginnings.length, "lengths": [[runs.length, runs.first] for runs in self.runs],
        }  # fmt: skip
        arrays: dict[str, NDArray[Any]] = {
            "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8), "bits": self.beginnings.bits,
            "looked_for": self.looked_for, "pmid": self.pmid, "item": self.item,
        }  # fmt: skip
        for runs in self.runs:
            arrays |= {f"{name}{runs.length}": getattr(runs, name) for name in ("hashes", "starts", "entries")}
        with write_aside(path) as aside, open(aside, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def open(cls, path: Path) -> "Benchmarks":
        """Read what :meth:`save` wrote."""
        with np.load(path) as file:
            about = json.loads(file["about"].tobytes())
            names = [(benchmark, name) for benchmark, name in about["names"]]
            runs = [
                Runs(length, first, *(file[f"{name}{length}"] for name in ("hashes", "starts", "entries")))
                for length, first in about["lengths"]
            ]
            return cls(
                names, RunFilter(about["shortest"], file["bits"]), runs, file["looked_for"], about["stock"],
                file["pmid"], file["item"], about["files"], about["left_out"],
            )  # fmt: skip

    @property
    def _benchmark_of(self) -> NDArray[np.int64]:
        return np.array([NAMES.index(benchmark) for benchmark, _ in self.names])

    def scan(self, words: Words, first_document: int = 0) -> Hits:
        """What is in a batch of texts: an array of HIT, with ``document`` counted from ``first_document``, sorted.

        Those of the whole corpus, end to end, go through :func:`without_phrases` before they mean anything.
        """
        begins = self.beginnings.passed_in(words)
        document = np.searchsorted(words.offsets, begins, side="right") - 1
        found = [runs.among(words, begins, document) for runs in self.runs]
        hits = np.unique(np.concatenate([np.empty(0, dtype=HIT), *found]))
        hits["document"] += first_document
        return hits

    def scan_pmids(self, pmids: NDArray[np.int64], first_document: int = 0) -> Hits:
        """Which documents are contexts by their PMID (0 or below for none): an array of HIT, as from :meth:`scan`."""
        begin, end = (np.searchsorted(self.pmid, pmids, side=side) for side in ("left", "right"))
        number = end - begin
        items = self.item[_spread(begin, number)]
        hits = _hits(
            np.repeat(np.arange(len(pmids)), number), items, np.full(len(items), PMID), np.full(len(items), -1)
        )
        hits["document"] += first_document
        return hits

    def hit_by(self, hits: Hits, way: int, benchmarks: Iterable[str]) -> NDArray[np.int64]:
        """The documents that are hit in one way by any of these benchmarks, sorted, each once."""
        wanted = np.isin(self._benchmark_of, [NAMES.index(name) for name in benchmarks])
        return np.unique(hits["document"][(hits["by"] == way) & wanted[hits["item"]]])

    def report(self, hits: Hits, dropped: NDArray[np.int64]) -> dict[str, Any]:
        """What was found, as JSON: by benchmark the files, items and documents in numbers, and by way the ids of the
        items that were looked for (``searched``) and of those of them that a document which stays was hit by
        (``contaminated``), so that scores can be given without them. An item in neither list of a way was too short for
        it, all stock phrases, or had nothing of the kind: whether the corpus holds it is not known.

        Args:
            hits: of the whole corpus, from :func:`without_phrases` and :meth:`scan_pmids`.
            dropped: the documents that were dropped for this reason.
        """
        of = self._benchmark_of
        stays = ~np.isin(hits["document"], dropped)
        return {
            "by_benchmark": {
                name: self._report_one(of == index, hits[of[hits["item"]] == index], stays[of[hits["item"]] == index])
                for index, name in enumerate(NAMES)
                if name in self.files
            },
            "files_left_out": self.left_out,
        }

    def _report_one(self, items: NDArray[np.bool_], hits: Hits, stays: NDArray[np.bool_]) -> dict[str, Any]:
        name = self.names[int(np.argmax(items))][0]
        by = {way: hits["by"] == index for index, way in enumerate(BY)}
        return {
            "files": self.files[name],
            "items": int(items.sum()),
            "items_too_short": int((items & ~self.looked_for[:, QUESTION]).sum()),
            "stock_phrases": self.stock[name],
            "items_hit": {way: len(np.unique(hits["item"][mask])) for way, mask in by.items()},
            "documents_hit": {way: len(np.unique(hits["document"][mask])) for way, mask in by.items()},
            "documents_dropped": len(np.unique(hits["document"][~stays])),
            "searched": {
                way: self._ids(np.flatnonzero(items & self.looked_for[:, index])) for index, way in enumerate(BY)
            },
            "contaminated": {way: self._ids(np.unique(hits["item"][mask & stays])) for way, mask in by.items()},
        }

    def _ids(self, items: NDArray[Any]) -> list[str]:
        return sorted(self.names[item][1] for item in items)


def without_phrases(hits: Hits) -> tuple[Hits, int]:
    """The hits of a whole corpus without those by runs that more than PHRASE documents hold, and how many such runs
    there are. What is left does not depend on the order of the hits."""
    hits = np.unique(hits)
    pairs = np.unique(hits[["run", "document"]])["run"]
    runs, documents = np.unique(pairs[pairs >= 0], return_counts=True)
    phrases = runs[documents > PHRASE]
    return hits[~np.isin(hits["run"], phrases)], len(phrases)


def _runs_of_items(items: list[Item], ngram: int) -> tuple[RunFilter, list[Runs], NDArray[np.bool_], dict[str, int]]:
    """What is looked for; for each item and way whether it is, PMIDs aside; how many runs are stock phrases."""
    fields = [
        (place, way, way == CONTEXT or number == 0, text)  # an option is not looked for as a whole
        for place, item in enumerate(items)
        for way, texts in ((QUESTION, item.question), (CONTEXT, item.contexts))
        for number, text in enumerate(texts)
    ]
    item, way, whole = (np.array([field[column] for field in fields]) for column in range(3))
    texts = [field[3] for field in fields]
    words = words_of(texts)
    benchmark = np.array([NAMES.index(each.benchmark) for each in items])[item]

    shortest = min(SHORTEST, ngram)
    begins_at = [np.empty(0, dtype=np.int64)]
    tables: list[Runs] = []
    stock, looked_for = np.zeros(len(NAMES), dtype=np.int64), np.zeros((len(items), len(BY)), dtype=bool)
    for length in range(shortest, ngram + 1):
        begins = begins_of_runs(words, length)
        field = np.searchsorted(words.offsets, begins, side="right") - 1
        fits = (words.counts >= ngram) if length == ngram else whole & (words.counts == length)
        begins, field = begins[fits[field]], field[fits[field]]
        hashes = runs_beginning_at(words, length, begins)
        asked = way[field] == QUESTION
        often = np.zeros(len(hashes), dtype=bool)
        often[asked], phrases = _stock(hashes[asked], benchmark[field[asked]], item[field[asked]])
        stock += phrases
        begins, field, hashes = begins[~often], field[~often], hashes[~often]
        looked_for[item[field], way[field]] = True
        begins_at.append(begins)
        if len(hashes):
            first = tables[-1].first + len(tables[-1].hashes) if tables else 0
            tables.append(_table(length, first, hashes, item[field] * 2 + way[field]))
    beginnings = RunFilter.of(shortest, np.unique(runs_beginning_at(words, shortest, np.concatenate(begins_at))))
    return beginnings, tables, looked_for, {name: int(number) for name, number in zip(NAMES, stock, strict=True)}


def _stock(
    hashes: Hashes, benchmark: NDArray[np.int64], item: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which runs are stock phrases of their benchmark, and how many different ones each benchmark has."""
    _, run = np.unique(hashes, return_inverse=True)
    of_benchmark, phrase = np.unique(run * len(NAMES) + benchmark, return_inverse=True)
    items = item.max(initial=0) + 1
    often = np.bincount(np.unique(phrase * items + item) // items, minlength=len(of_benchmark)) >= STOCK
    return often[phrase], np.bincount(of_benchmark[often] % len(NAMES), minlength=len(NAMES))


def _table(length: int, first: int, hashes: Hashes, entries: NDArray[np.int64]) -> Runs:
    order = np.lexsort((entries, hashes))
    hashes, entries = hashes[order], entries[order]
    new = np.ones(len(hashes), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (entries[1:] != entries[:-1])
    hashes, entries = hashes[new], entries[new]
    single, starts = np.unique(hashes, return_index=True)
    return Runs(length, first, single, np.append(starts, len(hashes)), entries.astype(np.int32))


def _spread(starts: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """``starts[0]`` and so many that follow it, then the same of ``starts[1]``, and so on."""
    return np.repeat(starts - np.cumsum(number) + number, number) + np.arange(number.sum())


def _hits(document: NDArray[Any], item: NDArray[Any], by: NDArray[Any], run: NDArray[Any]) -> Hits:
    hits = np.empty(len(document), dtype=HIT)
    hits["document"], hits["item"], hits["by"], hits["run"] = document, item, by, run
    return hits
