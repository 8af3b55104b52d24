"""What is said of files that are damaged, or of another version or format."""

import json
from pathlib import Path
from typing import Any

import pytest
from official_rows import (
    anatomy_file,
    golden_file,
    golden_row,
    load,
    medmcqa_file,
    medmcqa_row,
    medqa_file,
    medqa_row,
    pubmedqa_files,
    pubmedqa_row,
    reasons,
    written,
)  # fmt: skip

from base.errors import UserError
from eval.tasks import TASKS


def test_the_whole_file_is_preferred_to_a_part(tmp_path: Path) -> None:
    medmcqa_file(tmp_path, [medmcqa_row(1)])
    written(tmp_path, "medmcqa/dev.first2.json", [medmcqa_row(1), medmcqa_row(2)])
    assert list(load("medmcqa", tmp_path).sha256) == ["medmcqa/dev.json"]


def test_bad_rows_are_named_and_stay_in_the_denominator(tmp_path: Path) -> None:
    five = {"A": "one", "B": "two", "C": "three", "D": "four", "E": "five"}
    rows = [
        medqa_row(1),
        medqa_row(2, options=five),
        medqa_row(3, options={**medqa_row()["options"], "C": " "}),
        medqa_row(4, options={**medqa_row()["options"], "C": float("nan")}),
        medqa_row(5, answer_idx="E"),
        medqa_row(6, answer="three"),
        medqa_row(1),
        "{not json",
        "[]",
        medqa_row(7, question=""),
        medqa_row(8, options=["A. one", "B. two"]),
        medqa_row(9, question="\ud800"),
        '{"question": "It ends in the mid',
        json.dumps(medqa_row(10))[:-1] + ', "answer_idx": "A"}',
        '{"question": ' + "9" * 5000 + "}",
    ]
    questions = load("medqa", medqa_file(tmp_path, rows))
    assert (questions.n, len(questions.items), questions.rows_in_file) == (15, 1, 15)
    found = reasons(questions)
    assert "has 5 options" in found["line 2"]
    assert "C is empty" in found["line 3"]
    assert "C is not text but nan" in found["line 4"]
    assert "answer_idx is 'E'" in found["line 5"]
    assert "another version" in found["line 6"]
    assert f"{questions.items[0].id} (line 7)" in found
    assert "not JSON" in found["line 8"]
    assert "not a JSON object but a list" in found["line 9"]
    assert "question is empty" in found["line 10"]
    assert "not an object" in found["line 11"]
    assert "surrogate" in found["line 12"]
    assert "not JSON: Unterminated string" in found["line 13"]
    assert found["line 14"] == "has answer_idx twice"
    assert "not JSON: Exceeds the limit" in found["line 15"]
    assert "14 rows refused: " in questions.describe()


def test_bad_rows_of_medmcqa_are_named(tmp_path: Path) -> None:
    rows = [
        medmcqa_row(1),
        medmcqa_row(2, cop=0),
        medmcqa_row(3, cop=5),
        medmcqa_row(4, cop="2"),
        medmcqa_row(5, opd=None),
        medmcqa_row(1, question="The same id?"),
        medmcqa_row(6, ope="five"),
    ]
    found = reasons(load("medmcqa", medmcqa_file(tmp_path, rows)))
    assert "cop is 0" in found["q2 (line 2)"]
    assert "cop is 5" in found["q3 (line 3)"]
    assert "cop is '2'" in found["q4 (line 4)"]
    assert "opd is not text but None" in found["q5 (line 5)"]
    assert "has the id of line 1" in found["q1 (line 6)"]
    assert "five options" in found["q6 (line 7)"]


def test_bad_rows_of_pubmedqa_are_named(tmp_path: Path) -> None:
    rows = {
        "1": pubmedqa_row(),
        "2": pubmedqa_row(final_decision="perhaps"),
        "3": pubmedqa_row(final_decision="no"),
        "4": pubmedqa_row(CONTEXTS=[]),
        "5": pubmedqa_row(CONTEXTS=["", "Wet."]),
        "6": "yes",
        "8": pubmedqa_row(),
    }
    truth = {"1": "yes", "2": "perhaps", "3": "yes", "4": "yes", "5": "yes", "6": "yes", "7": "yes"}
    questions = load("pubmedqa", pubmedqa_files(tmp_path, rows, truth))
    assert (len(questions.items), questions.n) == (1, 7)
    found = reasons(questions)
    assert "final_decision is 'perhaps'" in found["2 (PMID 2)"]
    assert "final_decision is no, but the ground truth says 'yes'" in found["3 (PMID 3)"]
    assert "not a list" in found["4 (PMID 4)"]
    assert "CONTEXTS is empty" in found["5 (PMID 5)"]
    assert "not an object but a str" in found["PMID 6"]
    assert found["PMID 7"] == "is in test_ground_truth.json and not in ori_pqal.json"


def test_bad_rows_of_bioasq_are_named(tmp_path: Path) -> None:
    lines = ["a\tIs it?\tIt is.\tyes", "b\tIs it?\tIt is.", "c\tIs it?\t \tno", "d\tIs it?\tIt is.\tYES"]
    content = "\n".join(lines).encode() + b"\ne\tIs it?\tIt is \xff.\tno\n"
    found = reasons(load("bioasq", written(tmp_path, "bioasq/blurb/test.tsv", content)))
    assert "has 3 columns" in found["line 2"]
    assert "snippets is empty" in found["c (line 3)"]
    assert "the answer is 'YES', not yes or no" in found["d (line 4)"]
    assert "not in UTF-8" in found["line 5"]
    rows = [
        golden_row(1),
        golden_row(2, exact_answer=None),
        golden_row(3, snippets=[]),
        golden_row(4, exact_answer="Yes"),
        golden_row(6, documents=7),
        golden_row(5, type="list", exact_answer=[["a"]]),
        "no object",
    ]
    golden = load("bioasq_golden", golden_file(tmp_path, rows))
    assert [item.id for item in golden.items] == ["g1", "g4", "g6"]
    assert golden.n == 6
    found = reasons(golden)
    assert "the answer is None" in found["g2 (7B1_golden.json, question 2)"]
    assert "no snippet" in found["g3 (7B1_golden.json, question 3)"]
    assert "has no type" in found["7B1_golden.json, question 7"]


def test_a_question_that_two_golden_files_share_counts_once_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    golden_file(tmp_path, [golden_row(1), golden_row(2)], "7B1")
    golden_file(tmp_path, [golden_row(1), golden_row(2, exact_answer="no"), golden_row(3)], "7B2")
    questions = load("bioasq_golden", tmp_path)
    assert ([item.id for item in questions.items], questions.n, questions.repeated) == (["g1", "g2", "g3"], 4, 1)
    assert "has the id of 7B1_golden.json" in reasons(questions)["g2 (7B2_golden.json, question 2)"]
    assert "1 more are the same in two files, counted once" in questions.describe()


def test_bad_rows_of_mmlu_are_named_and_quoted_lines_and_words_for_nothing_are_kept(tmp_path: Path) -> None:
    content = 'Q1,NA,None,nan,null,A\n"Q2\nsecond line",a,b,c,d,D\nQ3,a,b,c,d\n\nQ4,a,,c,d,B\nQ5,a,b,c,d,3\n'
    questions = load("mmlu_anatomy", anatomy_file(tmp_path, content))
    assert [item.id for item in questions.items] == ["anatomy_test:1", "anatomy_test:2"]
    assert questions.items[0].options == ("NA", "None", "nan", "null")
    assert questions.items[1].question == "Q2\nsecond line"
    found = reasons(questions)
    assert "has 5 columns" in found["row 3"]
    assert "B is empty" in found["anatomy_test:4 (row 4)"]
    assert "the answer is '3'" in found["anatomy_test:5 (row 5)"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Q,a\xff,b,c,d,A\n", "not CSV in UTF-8"),
        (b"question,A,B,C,D,answer\nQ,a,b,c,d,A\n", "begins with a header"),
        (b"", "holds no row"),
    ],
)
def test_a_file_that_is_not_mmlu_is_refused_whole(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        load("mmlu_anatomy", anatomy_file(tmp_path, content))


def test_a_file_that_counts_golds_from_zero_is_refused_whole(tmp_path: Path) -> None:
    rows = [medmcqa_row(number, cop=number % 4) for number in range(8)]
    with pytest.raises(UserError, match=r"dev\.json: cop is 0 in 2 of 8 rows and 4 in none, so it counts from 0"):
        load("medmcqa", medmcqa_file(tmp_path, rows))


def test_five_options_are_a_task_of_their_own(tmp_path: Path) -> None:
    options = {"A": "one", "B": "two", "C": "three", "D": "four", "E": "five"}
    row = medqa_row(options=options, answer_idx="E", answer="five")
    with pytest.raises(UserError, match=r"has 5 options .*this task has 4"):
        load("medqa", medqa_file(tmp_path, [row]))
    written(tmp_path, "medqa/US/test.jsonl", [row, medqa_row()])
    questions = load("medqa_5options", tmp_path)
    assert [item.gold for item in questions.items] == [4]
    assert "has 4 options" in reasons(questions)["line 2"]


def test_bad_rows_of_the_dev_split_of_five_options_are_named(tmp_path: Path) -> None:
    options = ["A. one", "B. two", "C. three", "D. four", "E. B. five"]
    file = "medqa/derived_5opt/medqa_full_dev.json"
    rows = [
        {"question": "Q", "options": options, "answer": "B. five"},
        {"question": "Q", "options": options, "answer": "six"},
        {"question": "Q", "options": options[::-1], "answer": "one"},
        {"question": "Q", "options": options[:4], "answer": "one"},
        {"question": "Q", "options": [*options[:4], "E. one"], "answer": "one"},
    ]
    questions = load("medqa_5options_dev", written(tmp_path, file, json.dumps(rows)))
    assert [(item.options[item.gold], item.gold) for item in questions.items] == [("B. five", 4)]
    found = reasons(questions)
    assert "text of 0 options" in found["entry 2"]
    assert "not marked A. to E. in this order" in found["entry 3"] and "has 4 options" in found["entry 4"]
    assert "text of 2 options" in found["entry 5"]


def test_questions_with_two_identical_options_stay_and_are_counted(tmp_path: Path, real_data: Path) -> None:
    questions = load("medmcqa", medmcqa_file(tmp_path, [medmcqa_row(1), medmcqa_row(2, opb="one")]))
    assert questions.n == 2
    assert "1 with two identical options, of which the first is chosen" in questions.describe()
    assert "; 16 with two identical options" in load("medmcqa", real_data / "qa").describe()


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"id": "1", "sent1": "Q", "sent2": "", "ending0": "a", "label": 0}, "LinkBERT's"),
        ({"id": "1", "document_id": "1", "question": "Q", "choices": ["a"], "answer": ["a"]}, "BigBIO's"),
        ({"query": "Q", "choices": ["a"], "gold": 0}, "llm-foundry's"),
        ({"instruction": "I", "input": "Q", "output": "a"}, "instruction tuning"),
        (medmcqa_row(), "MedMCQA's"),
    ],
)
def test_a_file_of_another_format_is_named_for_what_it_is(tmp_path: Path, row: dict[str, Any], format: str) -> None:
    with pytest.raises(UserError, match=f"holds no question for medqa: .*its format looks like .*{format}.*jind11"):
        load("medqa", medqa_file(tmp_path, [row]))
    with pytest.raises(UserError, match=f"not an object of PMIDs.*looks like .*{format}"):
        load("pubmedqa", pubmedqa_files(tmp_path, json.dumps([row]), {"1": "yes"}))
    if "question" not in row or "choices" in row:
        with pytest.raises(UserError, match=f"its format looks like .*{format}"):
            load("medmcqa", medmcqa_file(tmp_path, [row]))


def test_files_that_are_not_whole_or_not_text_are_refused_whole(tmp_path: Path) -> None:
    whole = json.dumps({"1": pubmedqa_row(), "2": pubmedqa_row()})
    with pytest.raises(UserError, match=r"ori_pqal\.json: not JSON: .*it ends in the middle"):
        load("pubmedqa", pubmedqa_files(tmp_path, whole[:-30], {"1": "yes"}))
    written(tmp_path, "pubmedqa/data/ori_pqal.json", whole.encode().replace(b"rain", b"r\xffin"))
    with pytest.raises(UserError, match=r"ori_pqal\.json: not in UTF-8"):
        load("pubmedqa", tmp_path)
    written(tmp_path, "pubmedqa/data/ori_pqal.json", whole.replace('"2"', '"1"'))
    with pytest.raises(UserError, match=r"ori_pqal\.json: an object in it has 1 twice"):
        load("pubmedqa", tmp_path)
    with pytest.raises(UserError, match=r"1B1_golden\.json: not an object with a list of questions"):
        load("bioasq_golden", written(tmp_path, "bioasq/1B1_golden.json", "[]"))


def test_a_file_in_which_every_row_is_bad_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"phrases.*: holds no question for medqa: 2 rows refused: line 1: .*jind11"):
        load("medqa", medqa_file(tmp_path, [medqa_row(answer_idx=1), medqa_row(answer_idx="")]))
    with pytest.raises(UserError, match="holds no row"):
        load("medqa", medqa_file(tmp_path, []))


@pytest.mark.parametrize("name", TASKS)
def test_a_missing_file_is_named_with_its_origin(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"there is no .*https?://") as error:
        load(name, tmp_path)
    assert (f"`python -m eval get {name} --data {tmp_path}`" in str(error.value)) == bool(TASKS[name].scored.downloads)
    with pytest.raises(UserError, match="no such folder"):
        load(name, tmp_path / "nowhere")


def test_a_line_separator_inside_a_question_does_not_divide_the_row(tmp_path: Path) -> None:
    row = json.dumps(medqa_row(question="First\u2028second\u0085third"), ensure_ascii=False)
    assert load("medqa", medqa_file(tmp_path, [row])).items[0].question == "First\u2028second\u0085third"
    content = "a\tFirst\u2028second?\tIt is.\tyes\r\n"
    (item,) = load("bioasq", written(tmp_path, "bioasq/blurb/test.tsv", content)).items
    assert (item.question, item.gold) == ("First\u2028second?", 0)
