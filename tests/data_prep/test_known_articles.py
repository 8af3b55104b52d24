"""What one record tells of an article holds for its other records, and for no other article."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made import article, documents, dropped, prepare, pubmed_file
from made_articles import BY, jats, metadata

MARK = '<CommentsCorrectionsList><CommentsCorrections RefType="{}"/></CommentsCorrectionsList>'
RETRACTED, CONCERN = MARK.format("RetractionIn"), MARK.format("ExpressionOfConcernIn")


def citation(pmid: int, pmcid: int = 0, doi: str = "", more: str = "") -> str:
    names = f'<ArticleId IdType="doi">{doi}</ArticleId>' * bool(doi)
    names += f'<ArticleId IdType="pmc">PMC{pmcid}</ArticleId>' * bool(pmcid)
    whole = article(pmid, f"Abstract on number{pmid}.", more=more)
    return whole.replace("<ArticleIdList/>", f"<ArticleIdList>{names}</ArticleIdList>")


def full_text(folder: Path, pmcid: int, pmid: int = 0, doi: str = "", **told: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = f'<article-id pub-id-type="pmid">{pmid}</article-id>' * bool(pmid)
    names += f'<article-id pub-id-type="doi">{doi}</article-id>' * bool(doi)
    (folder / f"PMC{pmcid}.1.xml").write_text(jats(f"<p>A body on text{pmcid}.</p>", front=names + BY, pmcid=pmcid))
    if told:
        (folder / f"PMC{pmcid}.1.json").write_bytes(metadata(pmcid, **told))


def select(root: Path, *arguments: str) -> Path:
    prepare(
        root / "pubmed", root / "out", f"pmc={root / 'pmc'}", "download", "parse", "select",
        "select.quality.min_body_words=null", *arguments,
    )  # fmt: skip
    return root / "out"


@pytest.mark.parametrize(("mark", "reason"), [(RETRACTED, "retracted"), (CONCERN, "concern")])
def test_a_full_text_goes_with_its_citation_by_any_name_that_they_share(tmp_path: Path, mark: str, reason: str) -> None:
    first, second = tmp_path / "pubmed" / "pubmed26n0001.xml", tmp_path / "pubmed" / "pubmed26n0002.xml"
    pubmed_file(
        first, citation(1, more=mark), citation(2, pmcid=12, more=mark), citation(3, doi="10.1/Three", more=mark),
        citation(4, doi="10.1/four", more=mark), citation(5, more=mark), citation(9),
    )  # fmt: skip
    pubmed_file(second, citation(5))  # the mark was an error, which NLM has mended
    full_text(tmp_path / "pmc", 11, pmid=1)
    full_text(tmp_path / "pmc", 12)
    full_text(tmp_path / "pmc", 13, doi="10.1/THREE")
    full_text(tmp_path / "pmc", 14, pmid=40, doi="10.1/four")  # another article with the same DOI
    full_text(tmp_path / "pmc", 15, pmid=5)
    out = select(tmp_path, "select.drop_concern=true")
    gone = {name for name, why in dropped(out).items() if why == reason}
    assert gone == {"pmid:1", "pmid:2", "pmid:3", "pmid:4", "pmcid:PMC11", "pmcid:PMC12", "pmcid:PMC13"}
    assert set(documents(out)) == {"pmcid:PMC14", "pmcid:PMC15", "pmid:9"}


def test_an_abstract_goes_with_its_full_text_that_was_retracted(tmp_path: Path) -> None:
    pubmed_file(tmp_path / "pubmed" / "a.xml", citation(1), citation(2, pmcid=12), citation(3), citation(4))
    full_text(tmp_path / "pmc", 11, pmid=1, is_retracted=True)
    full_text(tmp_path / "pmc", 12, is_retracted=True)
    full_text(tmp_path / "pmc", 13, pmid=3, is_retracted=False)
    out = select(tmp_path)
    assert set(documents(out)) == {"pmcid:PMC13", "pmid:4"}
    assert {name for name, why in dropped(out).items() if why == "retracted"} == {
        "pmid:1", "pmid:2", "pmcid:PMC11", "pmcid:PMC12",
    }  # fmt: skip


def test_a_retraction_holds_although_its_metadata_lie_apart_from_the_article(tmp_path: Path) -> None:
    pubmed_file(tmp_path / "pubmed" / "a.xml", citation(1, pmcid=11), citation(2))
    full_text(tmp_path / "pmc" / "articles", 11)
    full_text(tmp_path / "pmc" / "articles", 12)
    (tmp_path / "pmc" / "metadata").mkdir()
    for pmcid in (11, 12):
        told = metadata(pmcid, is_retracted=pmcid == 11)
        (tmp_path / "pmc" / "metadata" / f"PMC{pmcid}.1.json").write_bytes(told)
    out = select(tmp_path)
    assert set(documents(out)) == {"pmcid:PMC12", "pmid:2"}
    assert sorted(pq.read_table(out / "dropped")["reason"].to_pylist()) == [
        "replaced", "replaced", "retracted", "retracted",
    ]  # fmt: skip


def test_what_is_kept_although_retracted_says_so(tmp_path: Path) -> None:
    pubmed_file(tmp_path / "pubmed" / "a.xml", citation(1, more=RETRACTED), citation(2, more=CONCERN))
    full_text(tmp_path / "pmc", 11, pmid=1)
    full_text(tmp_path / "pmc", 12, pmid=2)
    found = documents(select(tmp_path, "select.drop_retracted=false"))
    assert {name: row["retracted"] for name, row in found.items()} == {"pmcid:PMC11": True, "pmcid:PMC12": False}


def test_a_full_text_without_a_pmid_goes_when_a_benchmark_is_made_of_its_abstract(tmp_path: Path) -> None:
    pubmed_file(tmp_path / "pubmed" / "a.xml", citation(1, pmcid=11), citation(2, pmcid=12), citation(3))
    full_text(tmp_path / "pmc", 11)
    full_text(tmp_path / "pmc", 12)
    asked = {"QUESTION": "Do bees sleep?", "CONTEXTS": ["Short."], "LONG_ANSWER": "No.", "final_decision": "no"}
    (tmp_path / "qa" / "pubmedqa").mkdir(parents=True)
    (tmp_path / "qa" / "pubmedqa" / "ori_pqal.json").write_text(json.dumps({"1": asked}))
    questions = f"select.decontaminate.questions={tmp_path / 'qa'}"
    out = select(tmp_path, questions, "select.decontaminate.drop_by_pmid=[pubmedqa]")
    assert set(documents(out)) == {"pmcid:PMC12", "pmid:3"}
    found = json.loads((out / "contamination.json").read_text())["by_benchmark"]["pubmedqa"]
    assert found["documents_hit"]["pmid"] == found["documents_dropped"] == 2
