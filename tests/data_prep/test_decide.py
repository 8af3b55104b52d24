"""The rules that look at all documents: which one of the same stays, and when an abstract gives way to full text."""

import hashlib
from random import Random
from typing import Any

import numpy as np
import pytest

from data_prep.schema import Select
from data_prep.select.decide import ABSTRACT, FULL_TEXT, Candidates, decide
from data_prep.select.reasons import NAMES

EXACT_ONLY = Select(near_duplicates=None)


def abstract(pmid: int, text: str, pmcid: int = -1, doi: int = 0) -> dict[str, Any]:
    return {"source": ABSTRACT, "pmid": pmid, "pmcid": pmcid, "doi": doi, "text": text}


def full_text(pmcid: int, text: str, pmid: int = -1, doi: int = 0) -> dict[str, Any]:
    return {"source": FULL_TEXT, "pmid": pmid, "pmcid": pmcid, "doi": doi, "text": text}


def fates(documents: list[dict[str, Any]], settings: Select = EXACT_ONLY) -> list[str]:
    digests = [hashlib.sha256(one["text"].encode()).digest()[:16] for one in documents]
    candidates = Candidates(
        source=np.array([one["source"] for one in documents], dtype=np.uint8),
        pmid=np.array([one["pmid"] for one in documents], dtype=np.int64),
        pmcid=np.array([one["pmcid"] for one in documents], dtype=np.int64),
        doi=np.array([one["doi"] for one in documents], dtype=np.uint64),
        digest=np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2),
    )
    fates = np.zeros(len(documents), dtype=np.uint8)
    decide(candidates, settings, fates, [], [])
    return [NAMES[fate] for fate in fates]


@pytest.mark.parametrize("match", [{"pmcid": 7}, {"pmid": 1}, {"doi": 99}])
def test_abstract_goes_when_its_full_text_is_kept(match: dict[str, int]) -> None:
    own = {"pmid": 1, "pmcid": -1, "doi": 0} | {name: value for name, value in match.items() if name != "pmid"}
    other = {"pmcid": 7, "pmid": match.get("pmid", -1), "doi": match.get("doi", 0)}
    assert fates([abstract(text="short", **own), full_text(text="long", **other)]) == ["overlap", ""]


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
