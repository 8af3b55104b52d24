"""What the names of PubMed's files give away: gaps, and several years side by side."""

from pathlib import Path

import pytest
from made import article, ledger, prepare, pubmed_file

from data_prep.parse.numbering import doubts

ABSTRACT = "Troponin fell in both groups within two days of the infusion, and no one was lost to follow-up."


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["medline16n0902.xml.gz"],
        ["baseline/pubmed26n1333.xml.gz", "baseline/pubmed26n1334.xml.gz", "updatefiles/pubmed26n1335.xml.gz"],
        ["a/pubmed26n0001.xml.gz", "b/pubmed26n0001.xml.gz"],
        ["export.xml", "2024-05.xml", "pubmed1.xml", "pubmed7.xml", "pubmedsample18n0001.xml.gz"],
    ],
)
def test_a_whole_set_one_file_and_names_without_numbers_give_no_warning(names: list[str]) -> None:
    assert doubts(names) == []


def test_gaps_are_counted_and_named() -> None:
    (said,) = doubts(f"pubmed26n{number:04d}.xml.gz" for number in (1, 2, 4, 8))
    assert said.startswith("4 PubMed file(s) between 26n0001 and 26n0008 are missing: 26n0003, 26n0005 to 26n0007. ")
    (said,) = doubts(f"pubmed26n{number:04d}.xml.gz" for number in range(1, 100, 2))
    assert said.startswith("49 ") and "26n0020, …. " in said and "26n0022" not in said


def test_each_year_has_its_own_numbers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ("pubmed25n0001", "pubmed26n1334", "pubmed26n1336")
    for number, name in enumerate(names, 1):
        pubmed_file(tmp_path / "in" / f"{name}.xml.gz", article(number, f"{ABSTRACT} {number}."))
    prepare(tmp_path / "in", tmp_path / "out", "download", "parse", "select")
    years, gap = ledger(tmp_path / "out")["warnings"]
    assert "several years side by side (25nNNNN: 1, 26nNNNN: 2)" in years and "are missing: 26n1335. " in gap
    said = [line for line in capfd.readouterr().err.splitlines() if "WARNING" in line]
    assert said == [f"parse: WARNING: {years}", f"parse: WARNING: {gap}"]
