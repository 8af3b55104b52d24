"""The rules that look at all documents: which one of the same stays, and when an abstract gives way to full text."""

import hashlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from data_prep.schema import NearDuplicates, Select
from data_prep.select.decide import ABSTRACT, FULL_TEXT, Candidates, decide
from data_prep.select.near_duplicates import band_keys
from data_prep.select.reasons import NAMES

EXACT_ONLY = Select(near_duplicates=None)


def abstract(pmid: int, text: str, pmcid: int = -1, doi: int = 0) -> dict[str, Any]:
    return {"source": ABSTRACT, "pmid": pmid, "pmcid": pmcid, "doi": doi, "text": text}


def full_text(pmcid: int, text: str, pmid: int = -1, doi: int = 0) -> dict[str, Any]:
    return {"source": FULL_TEXT, "pmid": pmid, "pmcid": pmcid, "doi": doi, "text": text}


def fates(
    documents: list[dict[str, Any]], settings: Select = EXACT_ONLY, files: tuple[list[Path], list[Path]] = ([], [])
) -> list[str]:
    digests = [hashlib.sha256(one["text"].encode()).digest()[:16] for one in documents]
    candidates = Candidates(
        source=np.array([one["source"] for one in documents], dtype=np.uint8),
        pmid=np.array([one["pmid"] for one in documents], dtype=np.int64),
        pmcid=np.array([one["pmcid"] for one in documents], dtype=np.int64),
        doi=np.array([one["doi"] for one in documents], dtype=np.uint64),
        digest=np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2),
    )
    fates = np.zeros(len(documents), dtype=np.uint8)
    decide(candidates, settings, fates, *files)
    return [NAMES[fate] for fate in fates]


@pytest.mark.parametrize("match", [{"pmcid": 7}, {"pmid": 1}, {"doi": 99}])
def test_abstract_goes_when_its_full_text_is_kept(match: dict[str, int]) -> None:
    own = {"pmid": 1, "pmcid": -1, "doi": 0} | {name: value for name, value in match.items() if name != "pmid"}
    other = {"pmcid": 7, "pmid": match.get("pmid", -1), "doi": match.get("doi", 0)}
    assert fates([abstract(text="short", **own), full_text(text="long", **other)]) == ["overlap", ""]


def test_a_shared_doi_counts_only_where_no_other_name_says_that_they_are_two_articles() -> None:
    assert fates([abstract(1, "short", doi=9), full_text(7, "long", pmid=2, doi=9)]) == ["", ""]
    assert fates([abstract(1, "short", pmcid=8, doi=9), full_text(7, "long", doi=9)]) == ["", ""]
    assert fates([abstract(1, "short", pmcid=8, doi=9), full_text(-1, "long", doi=9)]) == ["overlap", ""]
    assert fates([abstract(1, "short", doi=9), full_text(7, "long", doi=9)]) == ["overlap", ""]
    assert fates([abstract(1, "short", pmcid=7, doi=9), full_text(7, "long", pmid=2)]) == ["overlap", ""]


def test_abstract_stays_when_its_full_text_is_not_among_the_documents() -> None:
    assert fates([abstract(1, "short", pmcid=7), full_text(8, "long")]) == ["", ""]


def test_abstract_stays_when_its_full_text_is_dropped_as_a_duplicate() -> None:
    documents = [abstract(1, "short", pmcid=9), full_text(8, "long"), full_text(9, "long")]
    assert fates(documents) == ["", "", "duplicate"]


def test_an_abstract_that_gave_way_takes_no_other_one_with_it() -> None:
    documents = [abstract(1, "same", pmcid=8), abstract(2, "same"), full_text(8, "long")]
    assert fates(documents) == ["overlap", "", ""]


def test_of_the_same_text_the_full_text_stays_then_the_lowest_identifier() -> None:
    assert fates([abstract(5, "x"), abstract(3, "x"), abstract(4, "x")]) == ["duplicate", "", "duplicate"]
    assert fates([abstract(1, "x"), full_text(10**7, "x")]) == ["duplicate", ""]
    assert fates([full_text(-1, "x", doi=5), full_text(10**7, "x")]) == ["duplicate", ""]


def test_an_abstract_like_two_full_texts_joins_them_but_drops_neither(tmp_path: Path) -> None:
    documents = [full_text(7, "one"), abstract(1, "between"), full_text(8, "other"), abstract(2, "its own", pmcid=8)]
    rows = np.arange(4 * 112, dtype=np.uint32).reshape(4, 112)
    rows[0] = rows[2] = rows[1]
    rows[0, :8] += 10_000  # one of 14 bands: 93 % like the abstract
    rows[2, 8:16] += 20_000  # another: 93 % like the abstract, 86 % like the other full text
    np.save(tmp_path / "bands.npy", band_keys(rows, NearDuplicates()))
    np.save(tmp_path / "signatures.npy", rows)
    files = ([tmp_path / "bands.npy"], [tmp_path / "signatures.npy"])
    settings = Select(near_duplicates=NearDuplicates(threshold=0.9))
    assert fates(documents, settings, files) == ["", "near_duplicate", "", "overlap"]


def test_settings_leave_both_or_all() -> None:
    documents = [abstract(1, "x", pmcid=8), full_text(8, "long"), abstract(2, "x")]
    assert fates(documents, Select(near_duplicates=None, overlap="both")) == ["", "", "duplicate"]
    assert fates(documents, Select(near_duplicates=None, overlap="both", exact_duplicates=False)) == ["", "", ""]


def test_no_identifier_matches_nothing() -> None:
    assert fates([abstract(1, "a"), full_text(-1, "b", doi=5), full_text(-1, "c", doi=6)]) == ["", "", ""]


def test_fates_do_not_depend_on_the_order_of_the_files() -> None:
    random = Random(3)
    documents = [
        random.choice([abstract, full_text])(number, f"text {random.randrange(40)}", doi=random.randrange(1, 60))
        for number in range(1, 121)
    ]
    expected = dict(zip(map(str, documents), fates(documents), strict=True))
    for _ in range(5):
        random.shuffle(documents)
        assert dict(zip(map(str, documents), fates(documents), strict=True)) == expected
    assert set(expected.values()) == {"", "overlap", "duplicate"}
