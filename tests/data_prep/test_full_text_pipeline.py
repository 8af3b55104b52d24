"""Abstracts and full texts together, from the command's end to end: what becomes of each record, and of bad input."""

import gzip
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made import SMALL, YAML, article, documents, dropped, ledger, prepare, pubmed_file
from made_articles import long, metadata, tarball

from base import storage
from base.errors import PartlyRefused, UserError
from base.local_s3 import LocalS3
from data_prep.download.sample import write_sample
from data_prep.download.sample_articles import write_articles
from data_prep.parse.licenses import POLICIES
from data_prep.schema import Sample
from data_prep.select.reasons import REASONS

STAGES = ("download", "parse", "select")
LONG = " ".join(f"word{number}" for number in range(150))


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample of both sources, selected with the defaults; tests choose again in copies."""
    out = tmp_path_factory.mktemp("both")
    prepare("sample", out, "pmc=sample", *STAGES)
    return out


@pytest.fixture
def select(parsed: Path, tmp_path: Path) -> Any:
    """Selects from the same parsed records with other settings."""

    def selected(*settings: str) -> Path:
        if not (tmp_path / "work").exists():
            shutil.copytree(parsed, tmp_path, dirs_exist_ok=True)
        prepare("sample", tmp_path, "pmc=sample", *STAGES, *settings)
        return tmp_path

    return selected


def full_texts(folder: Path, out: Path, *arguments: str) -> Path:
    """Full texts alone."""
    prepare("null", out, f"pmc={folder}", "tokenizer.train_on=[pmc]", *STAGES, *arguments)
    return out


def test_every_record_is_in_one_place_by_source_file_and_reason(parsed: Path) -> None:
    book = ledger(parsed)
    assert set(book["sources"]) == {"pubmed", "pmc"} and len(book["files"]) == 7
    kept = Counter(row["source_file"] for row in documents(parsed).values())
    rows = pq.read_table(parsed / "dropped").to_pylist()
    out = Counter((row["source_file"], row["reason"]) for row in rows)
    for name, entry in book["files"].items():
        assert entry["in"] == entry["kept"] + sum(entry["dropped"].values()) and entry["kept"] == kept[name]
        assert all(out.pop((name, reason)) == number for reason, number in entry["dropped"].items())
    assert not out and {row["reason"] for row in rows} <= set(REASONS)
    assert book["unusable_records"] == book["refused_files"] == []


def test_an_abstract_goes_only_when_its_full_text_is_in_out(parsed: Path, select: Any) -> None:
    rows = documents(parsed).values()
    with_text = {row["pmid"] for row in rows if row["source"] == "pmc"}
    gone = {name for name, reason in dropped(parsed).items() if reason == "overlap"}
    assert gone and {int(name.removeprefix("pmid:")) for name in gone} <= with_text
    assert not with_text & {row["pmid"] for row in rows if row["source"] == "pubmed"}

    both = documents(select("select.overlap=both"))
    assert {name for name in both if name not in documents(parsed)} == gone

    out = select("select.overlap=pile")
    abstracts = [row["pmid"] for row in documents(out).values() if row["source_file"].startswith("pubmed26")]
    assert abstracts and all(pmid % 3 for pmid in abstracts)  # each third has a PMCID of its own, others cite one
    assert len(abstracts) < sum(row["source_file"].startswith("pubmed26") for row in documents(parsed).values())
    assert "overlap" not in ledger(out)["sources"]["pmc"]["dropped"]


@pytest.mark.parametrize("policy", ["commercial", "redistributable", "all", "[CC0, CC BY-NC]"])
def test_only_permitted_licences_come_in(select: Any, policy: str) -> None:
    out = select(f"select.license={policy}")
    found = {row["license"] for row in documents(out).values() if row["source"] == "pmc"}
    wanted = {
        "commercial": {"CC0", "CC BY", "CC BY-SA"}, "redistributable": {"CC0", "CC BY", "CC BY-SA"},
        "all": {"CC0", "CC BY", "CC BY-SA", "CC BY-NC", "CC BY-NC-ND", None}, "[CC0, CC BY-NC]": {"CC0", "CC BY-NC"},
    }[policy]  # fmt: skip
    assert found == wanted and (policy not in POLICIES or found <= set(POLICIES[policy]))
    assert ("license" in ledger(out)["total"]["dropped"]) == (policy != "all")


def test_manuscripts_and_types_and_languages_come_in_when_they_are_wanted(select: Any) -> None:
    settings = ["select.license=all", "select.manuscripts=true", "select.drop_article_types=[]"]
    out = select(*settings, "select.full_text_languages=null")
    assert not {"license", "manuscript", "article_type", "language"} & set(ledger(out)["sources"]["pmc"]["dropped"])
    assert "TDM" in {row["license"] for row in documents(out).values()}
    with pytest.raises(UserError, match=r"no document is left.*'language'"):
        select("select.full_text_languages=[fr]", "select.languages=[xxx]")


def test_the_newest_published_version_of_an_article_stays(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    bulk = "oa_comm_xml.PMC000xxxxxx"
    members = [(f"PMC{pmcid}.xml", long(pmcid, "old").encode()) for pmcid in range(1, 5)]
    tarball(folder / f"{bulk}.baseline.2025-06-26.tar.gz", members)
    members = [(f"PMC{pmcid}.xml", long(pmcid, "new").encode()) for pmcid in (1, 2)]
    tarball(folder / f"{bulk}.baseline.2026-01-23.tar.gz", members)
    tarball(folder / "oa_comm_xml.incr.2026-01-24.tar.gz", [("PMC2.xml", long(2, "newest").encode())])
    container = [
        ("PMC3.1.json", metadata(3)), ("PMC3.1.xml", long(3, "now").encode()),
        ("PMC3.2.json", metadata(3, 2, is_manuscript=True)), ("PMC3.2.xml", long(3, "manuscript").encode()),
        ("PMC4.2.json", metadata(4, 2)), ("PMC4.2.xml", long(4, "second").encode()),
    ]  # fmt: skip
    tarball(folder / "pmc-00000.tar.gz", container)
    out = full_texts(folder, tmp_path / "out")
    marks = {name: row["text"].split("\n\n")[1].partition("word")[0] for name, row in documents(out).items()}
    # What comes with NLM's metadata replaces the tarballs' copies of the same version, which have no version numbers.
    assert marks == {"pmcid:PMC1": "new", "pmcid:PMC2": "newest", "pmcid:PMC3": "now", "pmcid:PMC4": "second"}
    assert ledger(out)["total"]["dropped"] == {"replaced": 4, "older_version": 2}


def test_in_a_mirror_of_the_bucket_metadata_apart_belongs_to_its_article_and_replaces_none(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "metadata").mkdir(parents=True)
    for pmcid, beside, apart in ((1, metadata(1), metadata(1)), (2, None, metadata(2, is_retracted=True)),
                                 (3, None, metadata(3, license_code="CC BY-NC")), (4, metadata(4), None)):  # fmt: skip
        own = folder / f"PMC{pmcid}.1"
        own.mkdir()
        (own / f"PMC{pmcid}.1.xml").write_text(long(pmcid))
        for place, data in ((own, beside), (folder / "metadata", apart)):
            if data is not None:
                (place / f"PMC{pmcid}.1.json").write_bytes(data)
    (folder / "metadata" / "PMC5.1.json").write_bytes(metadata(5))  # its text was not mirrored,
    (folder / "metadata" / "PMC6.1.json").write_bytes(metadata(6))
    tarball(folder / "elsewhere.tar.gz", [("PMC6.1.xml", long(6).encode())])  # or came another way
    out = full_texts(folder, tmp_path / "out")
    assert set(documents(out)) == {"pmcid:PMC1", "pmcid:PMC4", "pmcid:PMC6"}
    rows = {(row["id"], row["reason"]) for row in pq.read_table(out / "dropped").to_pylist()}
    assert rows == {
        ("pmcid:PMC2", "retracted"), ("pmcid:PMC3", "license"), ("pmcid:PMC5", "not_fetched"),
        ("pmcid:PMC6", "replaced"),
    }  # fmt: skip


def test_bad_full_text_costs_nothing_else_and_is_told_on_the_screen_and_in_the_ledger(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    good = tarball(folder / "good.tar.gz", [("PMC1.xml", long(1).encode()), ("PMC2.xml", long(2).encode()[:-9])])
    (folder / "cut.tar.gz").write_bytes(good.read_bytes()[:-30])
    (folder / "PMC10_PMC11.xml.gz").write_bytes(gzip.compress(f"<articles>{long(10)}{long(11)}</article>".encode()))
    (folder / "loose").mkdir()
    for name, data in {"a.nxml": long(3), "b.nxml": long(4)[:-9], "c.xml": "<PubmedArticleSet/>"}.items():
        (folder / "loose" / name).write_text(data)
    pubmed_file(tmp_path / "pubmed" / "a.xml", article(1, LONG))
    command = [sys.executable, "-m", "data_prep", YAML, f"pubmed={tmp_path / 'pubmed'}", f"pmc={folder}", f"out={out}"]
    run = subprocess.run([*command, *SMALL, *STAGES], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1, run.stderr
    end = run.stderr.partition("refused: ")[2]
    assert "2 input file(s)" in end and "3 record(s)" in end and "Traceback" not in run.stderr
    for line in (
        "cut.tar.gz: the ", "PMC10_PMC11.xml.gz: not well-formed", "good.tar.gz: PMC2.xml: not well-formed",
        "loose/: loose/b.nxml: not well-formed", "loose/: loose/c.xml: not JATS but citations of PubMed",
    ):  # fmt: skip
        assert f"\n  {line}" in end, line
    assert set(documents(out)) == {"pmid:1", "pmcid:PMC1", "pmcid:PMC3"}
    book = ledger(out)
    assert [file["name"] for file in book["refused_files"]] == ["PMC10_PMC11.xml.gz", "cut.tar.gz"]
    assert [(one["name"], one["records"], len(one["first"])) for one in book["unusable_records"]] == [
        ("good.tar.gz", 1, 1), ("loose/", 2, 2),
    ]  # fmt: skip
    details = {row["id"]: row["detail"] for row in pq.read_table(out / "dropped").to_pylist()}
    assert details["pmcid:PMC2"].startswith("PMC2.xml: not well-formed")
    assert set(details) == {"pmcid:PMC2", "loose/#loose/b.nxml", "loose/#loose/c.xml"}


@pytest.mark.parametrize("wrong", ["pubmed", "pmc"])
def test_a_place_of_which_nothing_can_be_used_is_an_error_whatever_the_other_gives(tmp_path: Path, wrong: str) -> None:
    pubmed_file(tmp_path / "pubmed" / "a.xml", article(1, LONG))
    (tmp_path / "pmc").mkdir()
    (tmp_path / "pmc" / "PMC1.xml").write_text(long(1))
    places = {"pubmed": tmp_path / "pubmed", "pmc": tmp_path / "pmc"}
    hint = {"pubmed": "give it as pmc=", "pmc": "give them as pubmed="}[wrong]
    places[wrong] = shutil.copytree(places["pmc" if wrong == "pubmed" else "pubmed"], tmp_path / "copy")
    with pytest.raises(UserError, match=f"(?s){wrong}=.*copy: nothing there could be used.*{hint}"):
        prepare(places["pubmed"], tmp_path / "out", f"pmc={places['pmc']}", *STAGES)


def test_the_same_file_as_both_inputs_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(long(1))
    with pytest.raises(UserError, match=r"a\.xml: a file of this name is in both"):
        prepare(tmp_path, tmp_path / "out", f"pmc={tmp_path / 'a.xml'}", *STAGES)


def test_a_changed_file_of_the_same_name_and_a_copy_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    path = tarball(folder / "a.tar.gz", [("PMC1.xml", long(1).encode()), ("PMC2.xml", long(2).encode())])
    out = full_texts(folder, tmp_path / "out")
    assert set(documents(out)) == {"pmcid:PMC1", "pmcid:PMC2"}
    tarball(path, [("PMC1.xml", long(1, "new").encode())])
    shutil.copy(path, folder / "b.tar.gz")
    full_texts(folder, out)
    assert set(documents(out)) == {"pmcid:PMC1"} and "newword" in documents(out)["pmcid:PMC1"]["text"]
    assert ledger(out)["files"]["a.tar.gz"]["dropped"] == {"replaced": 1}
    assert documents(out)["pmcid:PMC1"]["source_file"] == "b.tar.gz"


def test_both_inputs_in_a_bucket_give_what_folders_give(s3: LocalS3, parsed: Path, tmp_path: Path) -> None:
    write_sample(tmp_path / "pubmed", Sample(citations=150))
    write_articles(tmp_path / "pmc", Sample())
    for file in (*tmp_path.glob("pubmed/*"), *tmp_path.glob("pmc/*")):
        storage.upload(file, s3.location("both", file.parent.name, file.name))
    prepare(s3.location("both/pubmed"), tmp_path / "out", f"pmc={s3.location('both/pmc')}", *STAGES)
    told = {"warnings": ledger(tmp_path / "out")["warnings"]}  # files of several years, which are no longer "sample"
    assert ledger(tmp_path / "out") == ledger(parsed) | told and documents(tmp_path / "out") == documents(parsed)
    assert not list((tmp_path / "out" / "work" / "parsed").rglob(".*"))


def test_all_that_was_refused_is_told_again_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    tarball(tmp_path / "in" / "a.tar.gz", [("PMC1.xml", long(1).encode()), ("x.xml", b"no article")])
    for _ in range(2):
        with pytest.raises(PartlyRefused, match=r"1 record\(s\) were not used.*\n  a\.tar\.gz: x\.xml: not JATS"):
            full_texts(tmp_path / "in", tmp_path / "out")
