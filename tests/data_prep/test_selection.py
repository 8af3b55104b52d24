"""Which records become documents, and that every one of them is accounted for."""

import hashlib
from pathlib import Path

import pytest
from made import YAML, article, deletion, documents, dropped, ledger, prepare, pubmed_file

from base.configuration import load_configuration
from base.errors import PartlyRefused, UserError
from data_prep.schema import DataConfiguration

RETRACTED = '<CommentsCorrectionsList><CommentsCorrections RefType="RetractionIn"/></CommentsCorrectionsList>'


def select(tmp_path: Path, *arguments: str) -> Path:
    prepare(tmp_path / "in", tmp_path / "out", "download", "parse", "select", *arguments)
    return tmp_path / "out"


def test_ledger_adds_up_for_every_file(tmp_path: Path) -> None:
    prepare("sample", tmp_path, "download", "parse", "select")
    book = ledger(tmp_path)
    assert len(book["files"]) == 3 and book["total"]["in"] == 159 and book["refused_files"] == []
    for entry in (book["total"], *book["files"].values()):
        assert entry["in"] == entry["kept"] + sum(entry["dropped"].values())
    assert sum(entry["kept"] for entry in book["files"].values()) == book["total"]["kept"] == len(documents(tmp_path))
    assert {"replaced", "older_version", "deleted", "title_only", "retracted"} <= set(book["total"]["dropped"])


def test_every_record_ends_in_one_place_with_its_reason(tmp_path: Path) -> None:
    pubmed_file(
        tmp_path / "in" / "a.xml", article(1), article(2, None), article(3, None, title=""), article(None),
        article(4, "Retracted.", more=RETRACTED), article(5, "Text."), article(6, "French.", language="fre"),
        "<PubmedPreprint/>",
    )  # fmt: skip
    with pytest.raises(PartlyRefused, match=r"(?s)2 record\(s\).*a.xml: #4: .*without a PMID.*#8: .*PubmedPreprint"):
        select(tmp_path)
    out = tmp_path / "out"
    assert dropped(out) == {
        "pmid:2": "title_only", "pmid:3": "empty", "a.xml#4": "no_pmid", "pmid:4": "retracted", "pmid:5": "duplicate",
        "a.xml#8": "unknown_element",
    }  # fmt: skip
    assert set(documents(out)) == {"pmid:1", "pmid:6"}
    settings = ["select.require_abstract=false", "select.drop_retracted=false", "select.languages=[eng]"]
    with pytest.raises(PartlyRefused):
        select(tmp_path, *settings)
    assert set(documents(out)) == {"pmid:1", "pmid:2", "pmid:4"} and documents(out)["pmid:4"]["retracted"]
    assert dropped(out)["pmid:6"] == "language"


def test_files_replace_each_other_by_number_wherever_they_lie(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    pubmed_file(folder / "z" / "pubmed26n1334.xml.gz", article(1, "Old."), article(2, "Goes."), article(3, "Back."))
    pubmed_file(folder / "a" / "pubmed26n1335.xml", article(1, "New."), deletion(2, 3))
    pubmed_file(folder / "a" / "pubmed26n1336.xml", article(3, "Back again."))
    pubmed_file(folder / "medline16n0902.xml", article(1, "Oldest."), article(4, "Only here.", version=2))
    pubmed_file(folder / "loose.xml", article(1, "Whenever."), article(4, "First version."))
    out = select(tmp_path)
    assert {name: row["text"].split("\n")[1] for name, row in documents(out).items()} == {
        "pmid:1": "New.", "pmid:3": "Back again.", "pmid:4": "Only here.",
    }  # fmt: skip
    assert ledger(out)["total"]["dropped"] == {"replaced": 3, "older_version": 1, "deleted": 2}
    assert ledger(out)["deletions"] == {"a/pubmed26n1335.xml": 2}


def test_a_document_is_title_and_abstract_with_its_facts(tmp_path: Path) -> None:
    pubmed_file(tmp_path / "in" / "a.xml", article(12, "Body &amp; more.", title="Head."))
    row = documents(select(tmp_path))["pmid:12"]
    assert row.pop("sha256") == hashlib.sha256(b"Head.\nBody & more.").hexdigest()
    assert row == {
        "id": "pmid:12", "source": "pubmed", "version": 1, "title": "Head.", "text": "Head.\nBody & more.",
        "language": "eng", "license": None, "year": 1998, "journal": "Journal of Tests", "types": [],
        "retracted": False, "source_file": "a.xml", "pmid": 12, "pmcid": None, "doi": None, "source_md5": None,
    }  # fmt: skip


def test_documents_are_without_boilerplate_and_their_facts_are_of_what_is_left(tmp_path: Path) -> None:
    rights, nothing = "All rights reserved.", "The authors declare no conflict of interest."
    pubmed_file(
        tmp_path / "in" / "a.xml", article(1, f"Mice slept. {rights}"), article(2, "Mice ran."),
        article(3, rights, title=nothing), article(4, f"Mice ate. {nothing}"), article(5, "Mice ran.", title="Again."),
    )  # fmt: skip
    out = select(tmp_path, "select.near_duplicates=null")
    assert dropped(out) == {"pmid:3": "empty"}
    texts = {"pmid:1": "Mice slept.", "pmid:2": "Mice ran.", "pmid:4": "Mice ate.", "pmid:5": "Mice ran."}
    rows = documents(out)
    assert {name: row["text"].split("\n")[1] for name, row in rows.items()} == texts
    assert all(row["sha256"] == hashlib.sha256(row["text"].encode()).hexdigest() for row in rows.values())


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    pubmed_file(tmp_path / "in" / "a.xml", article(1, None))
    with pytest.raises(UserError, match="title_only"):
        select(tmp_path)
    assert not (tmp_path / "out" / "documents").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("select.decontaminate.drop_by_ngram=[medqa]",), r"drop_by_ngram.*needs select.decontaminate.questions"),
        (("select.decontaminate.drop_by_pmid=[bioasq]",), r"drop_by_pmid.*needs select.decontaminate.questions"),
        (("pmc=y", "parse.pmc.abstract=false"), r"select.overlap.*nowhere.*set overlap to both"),
        (("pmc=y", "parse.pmc.abstract=false", "select.overlap=pile"), r"select.overlap.*nowhere"),
    ],
)
def test_settings_that_would_not_do_what_they_say_are_refused_before_anything_is_done(
    arguments: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        load_configuration(YAML, ["pubmed=x", "out=z", *arguments], DataConfiguration)


def test_full_texts_alone_may_be_without_abstracts() -> None:
    load_configuration(
        YAML, ["pubmed=null", "pmc=y", "out=z", "tokenizer.train_on=[pmc]", "parse.pmc.abstract=false"],
        DataConfiguration,
    )  # fmt: skip
