"""A takedown names an article: all its records leave the corpus, and nothing else does."""

import json
from pathlib import Path

import pytest
from made import article, documents, dropped, prepare, pubmed_file
from made_articles import BY, jats

from base.errors import UserError
from data_prep.identifiers import normal_form, read_names
from data_prep.shards.reading import read_shard
from data_prep.tokenizer.training import load_tokenizer
from data_prep.trace import describe, text_of, trace

ALL = ("select.quality.min_body_words=null", "shards.val_fraction=0.2")
# The records of five articles. Of 2 only the full text names the abstract, of 3 only the abstract the full text, and
# the full text of 5 has no PMCID.
RECORDS = {
    "one": ("pmid:1", "pmcid:PMC11"), "two": ("pmid:2", "pmcid:PMC12"), "three": ("pmid:3", "pmcid:PMC13"),
    "four": ("pmid:4",), "five": ("pmid:5", "doi:10.1/five"),
}  # fmt: skip
OTHERS = {f"pmid:{pmid}" for pmid in range(100, 160)}


def citation(pmid: int, word: str, doi: str = "", pmcid: int = 0, version: int = 1) -> str:
    names = f'<ArticleId IdType="doi">{doi}</ArticleId>' if doi else ""
    names += f'<ArticleId IdType="pmc">PMC{pmcid}</ArticleId>' if pmcid else ""
    whole = article(pmid, f"Abstract on {word} and nothing else.", title=f"Title {word}.", version=version)
    return whole.replace("<ArticleIdList/>", f"<ArticleIdList>{names}</ArticleIdList>")


def full_text(path: Path, word: str, pmcid: int = 0, pmid: int = 0, doi: str = "") -> None:
    names = f'<article-id pub-id-type="pmid">{pmid}</article-id>' if pmid else ""
    names += f'<article-id pub-id-type="doi">{doi}</article-id>' if doi else ""
    xml = jats(f"<p>A long body on {word}, quite{word}.</p>", front=names + BY, pmcid=pmcid)
    xml = xml if pmcid else xml.replace('<article-id pub-id-type="pmc">0</article-id>', "")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(xml)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("in")
    pubmed_file(
        folder / "pubmed" / "pubmed26n0001.xml",
        citation(1, "one", "10.1/One", 11), citation(2, "two"), citation(3, "three", "10.1/three", 13),
        citation(4, "four", "10.1/FOUR"), citation(5, "five", "10.1/FIVE"),
        citation(6, "six", "10.1/seven"),  # a wrong DOI, which the next file corrects
        citation(7, "seven", "10.1/seven"),
        *(citation(pmid, f"number{pmid}") for pmid in range(100, 160)),
    )  # fmt: skip
    pubmed_file(folder / "pubmed" / "pubmed26n0002.xml", citation(6, "six", "10.1/six"))
    full_text(folder / "pmc" / "one.xml", "one", 11, 1, "10.1/ONE")
    full_text(folder / "pmc" / "two.xml", "two", 12, 2)
    full_text(folder / "pmc" / "three.xml", "three", 13)
    full_text(folder / "pmc" / "five.xml", "five", 0, 0, "10.1/five")
    return folder


def run(inputs: Path, out: Path, *arguments: str) -> Path:
    prepare(inputs / "pubmed", out, f"pmc={inputs / 'pmc'}", *ALL, *arguments)
    return out


def select(inputs: Path, out: Path, names: str) -> Path:
    listed = out / "takedowns.txt"
    out.mkdir(exist_ok=True)
    listed.write_text(names)
    return run(inputs, out, "download", "parse", "select", f"select.exclude={listed}")


@pytest.fixture(scope="module")
def whole(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(inputs, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "names",
    [
        "pmid:1 pmid:2 pmid:3 pmid:4 pmid:5",
        "pmcid:PMC11 pmcid:PMC12 pmcid:PMC13 doi:10.1/four doi:10.1/five",
        "doi:10.1/one pmcid:PMC12 doi:10.1/three doi:10.1/four pmid:5",
    ],
)
def test_any_name_takes_out_the_abstract_and_the_full_text(inputs: Path, tmp_path: Path, names: str) -> None:
    out = select(inputs, tmp_path, names.replace(" ", "\n"))
    listed = {name for article in RECORDS.values() for name in article}
    assert {name for name, reason in dropped(out).items() if reason == "excluded"} == listed
    assert set(documents(out)) == OTHERS | {"pmid:6", "pmid:7"}


def test_one_article_goes_alone_and_its_abstract_does_not_come_back(inputs: Path, tmp_path: Path) -> None:
    assert "pmid:1" not in documents(select(inputs, tmp_path, ""))  # its full text is there
    out = select(inputs, tmp_path, "pmcid:PMC11")
    assert {name for name, reason in dropped(out).items() if reason == "excluded"} == set(RECORDS["one"])
    assert "pmcid:PMC12" in documents(out) and "pmid:4" in documents(out)


def test_a_name_that_a_later_record_corrected_takes_nothing_else_out(inputs: Path, tmp_path: Path) -> None:
    out = select(inputs, tmp_path, "pmid:6")
    assert "pmid:6" not in documents(out) and "pmid:7" in documents(out)


def test_names_are_read_whatever_their_case_and_space(tmp_path: Path) -> None:
    place = tmp_path / "list.txt"
    place.write_text(
        "\ufeff# asked for in May\n\n  PMID : 007 # twice\npmid:7\nPMCID:pmc12\npmcid: 13\r\nDOI: 10.1/A#b\n"
    )
    assert read_names(str(place)) == ["pmid:7", "pmcid:PMC12", "pmcid:PMC13", "doi:10.1/a#b"]
    assert normal_form(" Doi:10.1000/X<1>3.0.CO;2-2 ") == "doi:10.1000/x<1>3.0.co;2-2"


def test_lines_that_hold_no_name_are_all_told_before_anything_is_done(inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        select(inputs, tmp_path, "pmid:1\n12345\npmid:2\nPMC12\npmid:3,pmid:4\n")
    told = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in told] == [f"{tmp_path / 'takedowns.txt'}:{n}" for n in (2, 4, 5)]
    assert "give pmid:123" in told[0] and not (tmp_path / "documents").exists()
    with pytest.raises(UserError, match="no such file"):
        run(inputs, tmp_path, f"select.exclude={tmp_path / 'none.txt'}")


def test_names_of_no_record_are_said(inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    select(inputs, tmp_path, "pmid:1\npmid:999\ndoi:10.9/none\npmcid:PMC11")
    assert "select: 2 of the ids in select.exclude name no record: pmid:999, doi:10.9/none\n" in capfd.readouterr().err


def test_any_name_finds_all_records_of_an_article(whole: Path) -> None:
    def found(name: str) -> tuple[set[str], dict[str, str]]:
        (one,) = trace(str(whole), [name]).values()
        assert {piece["id"] for piece in one.pieces} == {row["id"] for row in one.documents}
        return {row["id"] for row in one.documents}, {row["id"]: row["reason"] for row in one.dropped}

    for names, kept, abstract in (
        (("pmid:1", "PMCID:11", "doi:10.1/ONE"), "pmcid:PMC11", "pmid:1"),
        (("pmid:2", "pmcid:PMC12"), "pmcid:PMC12", "pmid:2"),
        (("pmid:3", "pmcid:PMC13", "doi:10.1/three"), "pmcid:PMC13", "pmid:3"),
        (("pmid:5", "doi:10.1/Five"), "doi:10.1/five", "pmid:5"),
    ):
        for name in names:
            assert found(name) == ({kept}, {abstract: "overlap"}), name
    assert found("doi:10.1/four") == ({"pmid:4"}, {})
    (one,) = trace(str(whole), ["pmid:1"]).values()
    told = describe("pmid:1", one)
    assert "  document  pmcid:PMC11, documents/" in told and "  dropped   overlap, from pubmed26n0001.xml" in told
    assert "  tokens    pmcid:PMC11, mds/" in told


def sides(out: Path) -> dict[str, str]:
    """id → split"""
    found = trace(str(out), list(documents(out)))
    return {piece["id"]: piece["split"] for one in found.values() for piece in one.pieces}


def text_of_shards(out: Path, tmp_path: Path) -> str:
    tokenizer, text = load_tokenizer(out / "tokenizer"), ""
    for split in ("train", "val"):
        for entry in json.loads((out / "mds" / split / "index.json").read_text())["shards"]:
            shard = out / "mds" / split / entry["raw_data"]["basename"]
            text += tokenizer.decode(read_shard(str(shard), entry, 64, tmp_path).reshape(-1).tolist())
    return text


def test_after_a_takedown_nothing_of_the_article_is_left_and_all_else_stays_where_it_was(
    inputs: Path, tmp_path: Path
) -> None:
    out = run(inputs, tmp_path / "out")
    before, documents_before = sides(out), documents(out)
    (found,) = trace(str(out), ["pmid:1"]).values()
    assert "quiteone" in text_of(str(out), found.pieces) and "quiteone" in text_of_shards(out, tmp_path)

    listed = tmp_path / "takedowns.txt"
    listed.write_text("pmid:1  # asked for by its publisher\n")
    run(inputs, out, f"select.exclude={listed}")

    for name in ("pmid:1", "pmcid:PMC11", "doi:10.1/one"):
        (found,) = trace(str(out), [name]).values()
        assert not found.documents and not found.pieces, name
        assert {(row["id"], row["reason"]) for row in found.dropped} == {
            ("pmid:1", "excluded"), ("pmcid:PMC11", "excluded"),
        }  # fmt: skip
    assert "quiteone" not in text_of_shards(out, tmp_path)
    card = json.loads((out / "mds" / "card.json").read_text())
    assert card["val_documents_added"] == 0 and card["splits"]["val"]["documents"] > 5
    del before["pmcid:PMC11"], documents_before["pmcid:PMC11"]
    assert sides(out) == before and documents(out) == documents_before
