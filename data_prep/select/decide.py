"""The rules that look at all documents: full text for abstract, the same text, nearly the same text.

An abstract goes when its full text **is kept**, not when it merely exists: full texts are therefore compared with each
other first, then abstracts are matched with those that are left, then all that remains is compared, and of that no full
text goes any more (two may be joined by an abstract that is like both). Of documents that
are the same, a full text stays before an abstract, and of one kind that with the lowest identifier, so nothing depends
on the order of files or on who did what.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.schema import Select
from data_prep.select import near_duplicates
from data_prep.select.reasons import CODES, KEPT

ABSTRACT, FULL_TEXT = 0, 1


@dataclass(frozen=True)
class Candidates:
    """All documents that no rule of their own has dropped, in the order of the files: 49 bytes each.

    Attributes:
        source: ABSTRACT or FULL_TEXT.
        pmid, pmcid: of the record itself; -1 for none.
        doi: see :func:`data_prep.parse.article.doi_key`; 0 for none.
        digest: uint64[n, 2], of the text.
    """

    source: NDArray[np.uint8]
    pmid: NDArray[np.int64]
    pmcid: NDArray[np.int64]
    doi: NDArray[np.uint64]
    digest: NDArray[np.uint64]

    def ranks(self) -> NDArray[np.int64]:
        """Of two documents with the same text the one with the lower rank stays."""
        number = np.where(self.source == ABSTRACT, self.pmid, self.pmcid)
        nameless = number < 0  # full texts without a PMCID come behind those that have one
        number[nameless] = (self.doi[nameless] >> np.uint64(2)).astype(np.int64) + (1 << 62)
        ranks = np.empty(len(number), dtype=np.int64)
        ranks[np.lexsort((number, self.source == ABSTRACT))] = np.arange(len(number))
        return ranks


@dataclass
class Report:
    """What was found, for ``OUT/duplicates.json``."""

    exact: dict[str, int] = field(default_factory=lambda: {"groups": 0, "dropped": 0})
    near: dict[str, int] = field(default_factory=lambda: {"groups": 0, "dropped": 0})
    overlap: dict[str, int] = field(default_factory=lambda: {"abstracts_with_full_text": 0, "dropped": 0})
    group_sizes: Counter[int] = field(default_factory=Counter)

    def add_near(self, kept_instead: NDArray[np.int64]) -> None:
        """For each document that was dropped the one that is kept instead."""
        _, dropped = np.unique(kept_instead, return_counts=True)
        self.near["dropped"] += int(dropped.sum())
        self.near["groups"] += len(dropped)
        self.group_sizes.update((dropped + 1).tolist())

    def json(self) -> dict[str, Any]:
        sizes = {str(size): self.group_sizes[size] for size in sorted(self.group_sizes)}
        return {"exact": self.exact, "near": {**self.near, "sizes": sizes}, "overlap": self.overlap}


def decide(
    candidates: Candidates, settings: Select, fate: NDArray[np.uint8], bands: Sequence[Path], signatures: Sequence[Path]
) -> Report:
    """Writes the fate of each candidate into ``fate``, which comes with those that are decided already.

    Args:
        bands, signatures: the files of :mod:`data_prep.select.judge` in the candidates' order; none when
            ``settings.near_duplicates`` is off.
    """
    report = Report()
    ranks = candidates.ranks()

    def compare(chosen: NDArray[np.int64], may_go: NDArray[np.bool_]) -> None:
        if settings.exact_duplicates:
            _drop_exact(candidates.digest, ranks, chosen, fate, report)
        if settings.near_duplicates is not None:
            left = chosen[fate[chosen] == KEPT]
            dropped, kept_instead = near_duplicates.find(
                bands, signatures, left, ranks[left], settings.near_duplicates.threshold
            )
            dropped &= may_go[left]
            fate[left[dropped]] = CODES["near_duplicate"]
            report.add_near(kept_instead[dropped])

    full_texts = candidates.source == FULL_TEXT
    if full_texts.any():
        compare(np.flatnonzero(full_texts & (fate == KEPT)), full_texts)
        _match_full_texts(candidates, settings, fate, report)
    if not full_texts.all():
        compare(np.flatnonzero(fate == KEPT), ~full_texts)
    return report


def _match_full_texts(candidates: Candidates, settings: Select, fate: NDArray[np.uint8], report: Report) -> None:
    """Counts the abstracts that have a full text, and drops those whose full text is kept."""
    abstracts = np.flatnonzero(candidates.source == ABSTRACT)
    full_texts = candidates.source == FULL_TEXT
    report.overlap["abstracts_with_full_text"] = int(_belongs(candidates, abstracts, full_texts).sum())
    if settings.overlap == "kept":
        dropped = abstracts[_belongs(candidates, abstracts, full_texts & (fate == KEPT)) & (fate[abstracts] == KEPT)]
        fate[dropped] = CODES["overlap"]
        report.overlap["dropped"] = len(dropped)


def _belongs(candidates: Candidates, abstracts: NDArray[np.int64], full_texts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether an abstract has its PMCID or PMID in common with one of these full texts, or its DOI.

    Two articles may share a DOI (Cochrane's reviews and their later versions), so it does not count where PMIDs or
    PMCIDs say that they are two. All abstracts have a PMID.
    """
    pmid, pmcid, doi = candidates.pmid, candidates.pmcid, candidates.doi
    nameless = full_texts & (pmid == -1)
    belongs = _among(pmcid[abstracts], pmcid[full_texts], -1) | _among(pmid[abstracts], pmid[full_texts], -1)
    belongs |= _among(doi[abstracts], doi[nameless & (pmcid == -1)], 0)
    return belongs | (_among(doi[abstracts], doi[nameless], 0) & (pmcid[abstracts] == -1))


def _among(values: NDArray[Any], known: NDArray[Any], none: int) -> NDArray[np.bool_]:
    return np.isin(values, np.unique(known[known != none]))


def _drop_exact(
    digest: NDArray[np.uint64], ranks: NDArray[np.int64], chosen: NDArray[np.int64], fate: NDArray[np.uint8],
    report: Report,
) -> None:  # fmt: skip
    halves = digest[chosen]
    again = np.sort(halves[:, 0])
    again = again[1:][again[1:] == again[:-1]]  # rising, and few: only these are put in order by all
    some = np.flatnonzero(again[np.searchsorted(again[:-1], halves[:, 0])] == halves[:, 0] if len(again) else [])
    order = some[np.lexsort((ranks[chosen[some]], halves[some, 1], halves[some, 0]))]
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (halves[order[1:]] == halves[order[:-1]]).all(axis=1)
    fate[chosen[order[same]]] = CODES["duplicate"]
    report.exact["dropped"] += int(same.sum())
    report.exact["groups"] += int((same[1:] & ~same[:-1]).sum())
