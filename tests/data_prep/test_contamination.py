"""Benchmark questions are read from all official forms, and a document that holds one is found with its item."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from base.errors import NotThere, UserError
from data_prep.select.benchmarks_text import read_questions
from data_prep.select.contamination import CONTEXT, PMID, QUESTION, Benchmarks, without_phrases
from data_prep.select.words import words_of

VIGNETTE = "A man of fifty comes to the clinic because his left knee has been swollen since he fell on ice"
CONTEXT_TEXT = "We followed forty nurses on night shifts for two winters and asked them weekly how well they had slept"
LONG_OPTION = "It blocks the uptake of iron in the upper gut while the patient takes milk with every single meal"


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def medqa(question: str, **more: Any) -> dict[str, Any]:
    options = {"A": "Rest", "B": LONG_OPTION, "C": "Heat", "D": "Cold"}
    return {"question": question, "options": options, "answer_idx": "A", "answer": "Rest", **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One or two items of each benchmark, in the official forms, with other files beside them."""
    root = tmp_path / "qa"
    lines = [medqa(VIGNETTE), medqa("Which of these lowers the pulse of athletes?")]  # the second has eight words
    write(root / "medqa/US/4_options/phrases_no_exclude_test.jsonl", "\n".join(map(json.dumps, lines)))
    write(root / "medqa/US/4_options/phrases_no_exclude_train.jsonl", json.dumps(medqa("Not scored " * 8)))
    choices = {f"op{letter}": f"Choice {letter}" for letter in "abcd"}
    write(root / "medmcqa/dev.json", json.dumps({"id": "m1", "question": "Short one is?", "cop": 1, **choices}))
    nerve = 'Which nerve\nruns below ""that"" muscle of the arm and then along the bone to the hand'
    write(root / "mmlu/data/test/anatomy_test.csv", f'"{nerve}",a,b,c,d,A\n')
    row = {"QUESTION": "Do nurses sleep?", "CONTEXTS": [CONTEXT_TEXT], "LONG_ANSWER": "No.", "final_decision": "no"}
    pqal = {"77": row}
    write(root / "pubmedqa/data/ori_pqal.json", pqal)
    write(root / "pubmedqa/data/test_set.json", pqal)
    write(root / "pubmedqa/data/test_ground_truth.json", {"77": "no", "78": "yes"})
    golden = {
        "id": "b1", "body": "Is sleep needed?", "type": "yesno",
        "documents": ["http://www.ncbi.nlm.nih.gov/pubmed/501", "https://pubmed.ncbi.nlm.nih.gov/77/"],
        "snippets": [{"text": CONTEXT_TEXT, "document": "http://www.ncbi.nlm.nih.gov/pubmed/502"}],
    }  # fmt: skip
    write(root / "bioasq/Task9BGoldenEnriched/9B1_golden.json", {"questions": [golden]})
    write(
        root / "bioasq/blurb/dev.tsv", f"b1\tIs sleep needed?\t{CONTEXT_TEXT}\tyes\nb2\tIs light?\tSome snippet.\tno\n"
    )
    write(root / "bioasq/blurb/train.tsv", "b3\tX?\tY\tno\n")
    write(root / "README.md", "of no benchmark")
    return root


def found(benchmarks: Benchmarks, texts: list[str]) -> set[tuple[int, str, str, int]]:
    """(document, benchmark, item, way)"""
    hits = benchmarks.scan(words_of(texts))
    return {(int(hit["document"]), *benchmarks.names[hit["item"]], int(hit["by"])) for hit in hits}


def test_all_official_forms_are_read_and_other_files_are_named(folder: Path) -> None:
    questions = read_questions(folder)
    items = {(item.benchmark, item.id): item for item in questions.items}
    assert len(items) == len(questions.items) == 8
    assert {name for name, _ in items} == {"medqa", "medmcqa", "mmlu", "pubmedqa", "bioasq"}
    assert items["mmlu", "anatomy_test:1"].question[0].startswith('Which nerve\nruns below "that" muscle')
    assert items["pubmedqa", "77"].pmids == [77] and items["pubmedqa", "78"].pmids == [78]
    assert items["bioasq", "b1"].pmids == [501, 77, 502] and items["bioasq", "b1"].contexts == [CONTEXT_TEXT]
    assert questions.left_out == [
        "README.md", "bioasq/blurb/train.tsv", "medqa/US/4_options/phrases_no_exclude_train.jsonl",
    ]  # fmt: skip


def test_ids_are_those_of_the_evaluation(folder: Path) -> None:
    """So that its scores can be given without the contaminated items."""
    from eval.tasks.medqa import read_row

    ids = {item.id for item in read_questions(folder).items if item.benchmark == "medqa"}
    assert read_row(medqa(VIGNETTE)).id in ids


def test_options_with_and_without_letters_are_the_same_item(tmp_path: Path) -> None:
    """Spaces of an option are part of the id, as they are of what is scored."""
    options = {"A": "Rest", "B": " Heat", "C": "Cold"}
    rows = [
        {"question": VIGNETTE, "options": options},
        {"question": VIGNETTE, "options": [f"{letter}. {text}" for letter, text in options.items()]},
    ]
    write(tmp_path / "medqa/US/test.jsonl", "\n".join(map(json.dumps, rows)))
    (item,) = read_questions(tmp_path).items
    assert item.question == [VIGNETTE, "Rest", " Heat", "Cold"]


def test_a_document_with_a_run_of_a_question_is_hit(folder: Path) -> None:
    benchmarks = Benchmarks.load(folder, 13)
    (vignette,) = (item.id for item in read_questions(folder).items if VIGNETTE in item.question)
    words = VIGNETTE.split()
    texts = [
        "Nothing of the kind.",
        f"Case. {VIGNETTE.upper()}!",
        " ".join(words[2:15]),  # 13 words
        " ".join(words[2:14]),  # 12
        " ".join(words[:10]),  # a run that ends where this text ends and the next begins
        " ".join(words[10:]),
        "we saw that; which of these lowers the pulse of athletes is not known",
        "which of these lowers the pulse of runners",
    ]
    hits = found(benchmarks, texts)
    assert {hit for hit in hits if hit[2] == vignette} == {(place, "medqa", vignette, QUESTION) for place in (1, 2)}
    assert {hit[0] for hit in hits} == {1, 2, 6}
    options = {hit[2] for hit in found(benchmarks, [LONG_OPTION])}
    assert len(options) == 2 and vignette in options


def test_contexts_are_told_from_questions(folder: Path) -> None:
    hits = found(Benchmarks.load(folder, 13), ["Title.\n" + CONTEXT_TEXT])
    assert hits == {(0, "pubmedqa", "77", CONTEXT), (0, "bioasq", "b1", CONTEXT)}


def test_pmids_hit_their_items(folder: Path) -> None:
    benchmarks = Benchmarks.load(folder, 13)
    hits = benchmarks.scan_pmids(np.array([5, 77, 0, 502, -1, 78, 501, 79]), first_document=100)
    assert {(int(hit["document"]), *benchmarks.names[hit["item"]]) for hit in hits} == {
        (101, "pubmedqa", "77"), (101, "bioasq", "b1"), (103, "bioasq", "b1"), (105, "pubmedqa", "78"),
        (106, "bioasq", "b1"),
    }  # fmt: skip
    assert set(hits["by"]) == {PMID}
    assert benchmarks.hit_by(hits, PMID, ["pubmedqa"]).tolist() == [101, 105]
    assert benchmarks.hit_by(hits, CONTEXT, ["pubmedqa"]).tolist() == []


def test_phrases_of_three_items_say_nothing(folder: Path) -> None:
    phrase = "Which of the following is the most likely cause of what this patient has been telling us"
    path = folder / "medqa/US/4_options/phrases_no_exclude_dev.jsonl"
    rows = [medqa(f"Number {number} of {number}. {phrase} for {number} weeks?") for number in range(2)]
    write(path, "\n".join(map(json.dumps, rows)))
    two = Benchmarks.load(folder, 13)
    assert len(found(two, [phrase])) == 2 and two.stock["medqa"] == 0 + len(LONG_OPTION.split()) - 12
    rows = [medqa(f"Number {number} of {number}. {phrase} for {number} weeks?") for number in range(3)]
    write(path, "\n".join(map(json.dumps, rows)))
    three = Benchmarks.load(folder, 13)
    assert found(three, [phrase, LONG_OPTION]) == set() and three.stock["medqa"] > two.stock["medqa"]
    assert len(found(three, [f"number 1 of 1 {phrase}"])) == 1


def test_runs_of_many_documents_are_phrases_of_authors(folder: Path) -> None:
    benchmarks = Benchmarks.load(folder, 13)
    words = VIGNETTE.split()
    phrase, other = " ".join(words[:13]), " ".join(words[-13:])
    ten = benchmarks.scan(words_of([phrase] * 10 + [other]))
    kept, phrases = without_phrases(ten)
    assert len(kept) == len(ten) == 11 and phrases == 0
    eleven = np.concatenate([benchmarks.scan(words_of([f"{phrase} {phrase}"]), document) for document in range(11)])
    pmids = benchmarks.scan_pmids(np.array([77] * 11))
    kept, phrases = without_phrases(np.concatenate([pmids, eleven, benchmarks.scan(words_of([VIGNETTE]), 0), ten[-1:]]))
    assert phrases == 1 and set(kept["document"][kept["by"] == QUESTION]) == {0, 10}
    assert (kept["by"] == PMID).sum() == len(pmids)


def test_saved_benchmarks_find_the_same(folder: Path, tmp_path: Path) -> None:
    benchmarks = Benchmarks.load(folder, 13)
    benchmarks.save(tmp_path / "benchmarks.npz")
    again = Benchmarks.open(tmp_path / "benchmarks.npz")
    texts = [VIGNETTE, CONTEXT_TEXT, "nothing"]
    assert found(again, texts) == found(benchmarks, texts) != set()
    none = np.array([], dtype=np.int64)
    hits = benchmarks.scan(words_of(texts))
    assert again.report(hits, none) == benchmarks.report(hits, none)


def test_report_counts_by_benchmark_and_way_and_names_what_stays(folder: Path) -> None:
    benchmarks = Benchmarks.load(folder, 13)
    texts = [VIGNETTE, CONTEXT_TEXT, VIGNETTE]
    hits = np.concatenate([benchmarks.scan(words_of(texts)), benchmarks.scan_pmids(np.array([1, 77, 2]))])
    report = benchmarks.report(hits, np.array([1]))
    assert report["files_left_out"] == benchmarks.left_out
    medqa_part, pubmedqa = report["by_benchmark"]["medqa"], report["by_benchmark"]["pubmedqa"]
    assert medqa_part["items"] == 2 and medqa_part["items_too_short"] == 0
    assert medqa_part["items_hit"] == {"question": 1, "context": 0, "pmid": 0}
    assert medqa_part["documents_hit"] == {"question": 2, "context": 0, "pmid": 0}
    assert medqa_part["documents_dropped"] == 0 and len(medqa_part["contaminated"]["question"]) == 1
    assert pubmedqa["items"] == 2 and pubmedqa["items_too_short"] == 2
    assert pubmedqa["items_hit"] == {"question": 0, "context": 1, "pmid": 1}
    assert pubmedqa["documents_dropped"] == 1
    assert pubmedqa["contaminated"] == {"question": [], "context": [], "pmid": []}
    assert pubmedqa["searched"] == {"question": [], "context": ["77"], "pmid": ["77", "78"]}  # of 78 only the label
    assert report["by_benchmark"]["bioasq"]["searched"] == {"question": [], "context": ["b1"], "pmid": ["b1"]}
    assert len(medqa_part["searched"]["question"]) == 2 and not medqa_part["searched"]["context"]
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("medqa/x_test.jsonl", '{"question": "Q?"}\n{"question": "R?"}', r"x_test.jsonl, question 1: .*'options'"),
        ("medqa/x_test.jsonl", "{", "neither JSON nor JSON lines"),
        ("medmcqa/dev.json", '{"id": "1", "question": "", "opa": "", "opb": "", "opc": "", "opd": ""}', "missing"),
        ("mmlu/data/val/a_val.csv", "question,a,b,A\n", "6|six"),
        ("bioasq/blurb/test.tsv", "id\tquestion\tyes\n", "3 columns"),
        ("pubmedqa/a.json", {"x": {}}, "question x"),
        ("bioasq/1B1_golden.json", "7", "no questions"),
    ],
)
def test_a_file_in_another_form_is_an_error_that_names_it(folder: Path, name: str, content: Any, message: str) -> None:
    write(folder / name, content)
    with pytest.raises(UserError, match=message) as caught:
        read_questions(folder)
    assert Path(name).name in str(caught.value)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotThere, match="no question in it"):
        read_questions(tmp_path)
    with pytest.raises(NotThere, match="no such folder"):
        read_questions(tmp_path / "none")


def test_real_questions_are_found_in_texts_made_of_them(real_data: Path) -> None:
    """Every item that is not too short is found in its own text, and nothing else is hit by plain prose."""
    questions = read_questions(real_data / "qa")
    benchmarks = Benchmarks.load(real_data / "qa", 13)
    texts = [
        f"Intro. {item.question[0]} And\n{' '.join(item.question[1:])} end."
        for item in questions.items
        if item.question
    ]
    hit = benchmarks.scan(words_of(texts))
    own = set(hit["item"][(hit["by"] == QUESTION)].tolist())
    missed = [place for place in np.flatnonzero(benchmarks.looked_for[:, QUESTION]).tolist() if place not in own]
    assert missed == []
