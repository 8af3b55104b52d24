"""What a run over whole files says of test questions in the corpus, and takes out when it is asked to."""

import json
from pathlib import Path
from typing import Any

import pytest
from made import article, documents, dropped, ledger, prepare, pubmed_file
from made_articles import BY, jats

ASKED = "A keeper of bees of sixty is stung on the tongue and within minutes her voice turns hoarse and low"
REVISED = "After a week at sea a cook finds that his left hand trembles whenever he holds a cup of cold water"
PHRASE = "The aim of this study was to find out how well and how safely the new drug works in adults"
SNIPPET = "Nine of the twelve sheep that had eaten the clover were blind on the third day after the first rain"
CLEAN = {"pmid:2", "pmid:3", "pmid:4", *(f"pmid:{pmid}" for pmid in range(200, 211))}
ON = (
    "select.decontaminate.drop_by_pmid=[pubmedqa,bioasq]",
    "select.decontaminate.drop_by_ngram=[medqa,medmcqa,mmlu,pubmedqa,bioasq]",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions in the official forms, and records some of which hold them."""
    root = tmp_path_factory.mktemp("in")
    mmlu = root / "qa/mmlu/data/test/anatomy_test.csv"
    mmlu.parent.mkdir(parents=True)
    mmlu.write_text("".join(f"{question},a,b,c,d,A\n" for question in (ASKED, REVISED, PHRASE)))
    asked = {"QUESTION": "Do bees sleep?", "CONTEXTS": ["Short."], "LONG_ANSWER": "No.", "final_decision": "no"}
    write(root / "qa/pubmedqa/data/ori_pqal.json", {"77": asked})
    golden = {
        "id": "b1", "body": "Is clover safe?", "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/501"],
        "snippets": [{"text": SNIPPET, "document": "http://www.ncbi.nlm.nih.gov/pubmed/502"}],
    }  # fmt: skip
    write(root / "qa/bioasq/Task9BGoldenEnriched/9B1_golden.json", {"questions": [golden]})
    write(root / "qa/notes.json", {})

    first_words, last_words = " ".join(ASKED.split()[:12]), " ".join(SNIPPET.split()[-12:])
    records = [
        article(1, f"We report this case. {ASKED.upper()}. She was well again."),
        article(2, "A clean abstract on the keeping of bees."), article(3, f"Twelve words only: {first_words}."),
        article(4, f"Twelve words only: {last_words}."), article(77, "How bees sleep."), article(501, "On clover."),
        article(502, f"Results: {SNIPPET.replace(' ', '  ')}!"),
        *(article(pmid, f"{PHRASE}. This is study {pmid}.") for pmid in range(200, 211)),
    ]  # fmt: skip
    pubmed_file(root / "pubmed" / "pubmed26n0001.xml", *records)
    for number in range(2, 15):  # a citation that was revised more often than a phrase must be met
        pubmed_file(
            root / "pubmed" / f"pubmed26n{number:04d}.xml", article(6, f"{REVISED}, as revision {number} tells.")
        )
    full_text = jats("<p>All about clover and sheep.</p>", front=f'<article-id pub-id-type="pmid">501</article-id>{BY}')
    (root / "pmc").mkdir()
    (root / "pmc" / "clover.xml").write_text(full_text)
    return root


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def select(inputs: Path, out: Path, *arguments: str) -> dict[str, Any]:
    prepare(
        inputs / "pubmed", out, "download", "parse", "select", f"pmc={inputs / 'pmc'}",
        "select.quality.min_body_words=null", f"select.decontaminate.questions={inputs / 'qa'}", *arguments,
    )  # fmt: skip
    return json.loads((out / "contamination.json").read_text())


def test_what_holds_a_question_is_reported_and_stays_when_nothing_is_to_be_dropped(
    inputs: Path, tmp_path: Path
) -> None:
    found = select(inputs, tmp_path)
    mmlu, pubmedqa, bioasq = (found["by_benchmark"][name] for name in ("mmlu", "pubmedqa", "bioasq"))
    # The thirteen revisions of one citation are one document; the phrase of eleven documents is no hit.
    assert mmlu["documents_hit"] == {"question": 2, "context": 0, "pmid": 0} and found["phrases"] > 0
    assert mmlu["items"] == 3 and mmlu["contaminated"]["question"] == ["anatomy_test:1", "anatomy_test:2"]
    assert pubmedqa["documents_hit"]["pmid"] == 1 and pubmedqa["contaminated"]["pmid"] == ["77"]
    assert bioasq["documents_hit"] == {"question": 0, "context": 1, "pmid": 2}  # the full text for its abstract
    assert bioasq["contaminated"] == {"question": [], "context": ["b1"], "pmid": ["b1"]}
    assert all(one["documents_dropped"] == 0 for one in found["by_benchmark"].values())
    assert found["files_left_out"] == ["notes.json"]
    assert set(documents(tmp_path)) == CLEAN | {"pmid:1", "pmid:6", "pmid:77", "pmid:502", "pmcid:PMC1"}


def test_what_holds_a_question_goes_when_it_is_to_be_dropped_and_the_rest_stays(inputs: Path, tmp_path: Path) -> None:
    found = select(inputs, tmp_path, *ON)
    assert set(documents(tmp_path)) == CLEAN
    reasons = {name: reason for name, reason in dropped(tmp_path).items() if reason.startswith("contaminated")}
    assert reasons == {
        "pmid:1": "contaminated_ngram", "pmid:6": "contaminated_ngram", "pmid:77": "contaminated_pmid",
        "pmid:501": "contaminated_pmid", "pmid:502": "contaminated_pmid", "pmcid:PMC1": "contaminated_pmid",
    }  # fmt: skip
    book = ledger(tmp_path)["total"]["dropped"]
    assert book["contaminated_ngram"] == 2 and book["contaminated_pmid"] == 4 and book["replaced"] == 12
    by = found["by_benchmark"]
    assert [by[name]["documents_dropped"] for name in ("mmlu", "pubmedqa", "bioasq")] == [2, 1, 3]
    assert not any(ids for one in by.values() for ids in one["contaminated"].values())


def test_only_what_is_named_is_dropped(inputs: Path, tmp_path: Path) -> None:
    found = select(inputs, tmp_path, "select.decontaminate.drop_by_pmid=[pubmedqa]")
    assert {"pmid:1", "pmid:6", "pmid:502", "pmcid:PMC1"} <= set(documents(tmp_path))
    assert "pmid:77" not in documents(tmp_path)
    assert found["by_benchmark"]["pubmedqa"]["contaminated"]["pmid"] == []
    assert found["by_benchmark"]["mmlu"]["contaminated"]["question"] == ["anatomy_test:1", "anatomy_test:2"]


def test_without_questions_there_is_no_report(inputs: Path, tmp_path: Path) -> None:
    select(inputs, tmp_path)
    prepare(inputs / "pubmed", tmp_path, "download", "parse", "select")
    assert not (tmp_path / "contamination.json").exists()
