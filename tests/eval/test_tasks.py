import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from base.errors import UserError
from eval.task import Questions, load_questions
from eval.tasks import TASKS
from eval.tasks.medmcqa import MEDMCQA
from eval.tasks.medqa import MEDQA


def medqa_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    options = {"A": "one", "B": "two", "C": "three", "D": "four"}
    row = {"question": f"Which word comes at place {number}?", "options": options, "answer_idx": "B", "answer": "two"}
    return {**row, **changes}


def medmcqa_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    row = {"question": f"Which word comes at place {number}?", "cop": 4, "id": f"q{number}", "subject_name": "Words"}
    return {**row, "opa": "one", "opb": "two", "opc": "three", "opd": "four", **changes}


def written(folder: Path, name: str, rows: list[Any]) -> str:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(folder)


def medqa_file(folder: Path, rows: list[Any]) -> str:
    return written(folder, "medqa/US/4_options/phrases_no_exclude_test.jsonl", rows)


def medmcqa_file(folder: Path, rows: list[Any]) -> str:
    return written(folder, "medmcqa/dev.json", rows)


def reasons(questions: Questions) -> dict[str, str]:
    return {refused.id: refused.reason for refused in questions.refused}


@pytest.mark.parametrize(("name", "rows", "gold"), [("medqa", 636, "ABCD"), ("medmcqa", 2800, [896, 737, 620, 547])])
def test_every_row_of_the_real_files_is_a_question(real_data: Path, name: str, rows: int, gold: Any) -> None:
    questions = load_questions(TASKS[name], str(real_data / "qa"))
    assert (len(questions.items), questions.refused) == (rows, ())
    assert len({item.id for item in questions.items}) == rows
    lines = (real_data / "qa" / questions.file).read_text().split("\n")
    for item, line in zip(questions.items[:50], lines, strict=False):
        row = json.loads(line)
        right = row["options"][row["answer_idx"]] if name == "medqa" else row["op" + "abcd"[row["cop"] - 1]]
        assert (item.question, item.options[item.gold]) == (row["question"], right)
    if name == "medmcqa":
        assert [sum(item.gold == position for item in questions.items) for position in range(4)] == gold


def test_a_part_of_the_official_file_is_used_and_said(real_data: Path) -> None:
    said = load_questions(MEDQA, str(real_data / "qa"), limit=64).describe()
    assert "64 of 636 rows" in said
    assert "the official test has 1,273" in said


def test_the_whole_file_is_preferred_to_a_part(tmp_path: Path) -> None:
    data = medmcqa_file(tmp_path, [medmcqa_row(1)])
    written(tmp_path, "medmcqa/dev.first2.json", [medmcqa_row(1), medmcqa_row(2)])
    assert load_questions(MEDMCQA, data).file == "medmcqa/dev.json"


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
    ]
    questions = load_questions(MEDQA, medqa_file(tmp_path, rows))
    assert (questions.n, len(questions.items), questions.rows_in_file) == (12, 1, 12)
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
    assert "11 rows refused: " in questions.describe()


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
    found = reasons(load_questions(MEDMCQA, medmcqa_file(tmp_path, rows)))
    assert "cop is 0" in found["q2 (line 2)"]
    assert "cop is 5" in found["q3 (line 3)"]
    assert "cop is '2'" in found["q4 (line 4)"]
    assert "opd is not text but None" in found["q5 (line 5)"]
    assert "has the id of line 1" in found["q1 (line 6)"]
    assert "five options" in found["q6 (line 7)"]


def test_a_file_that_counts_golds_from_zero_is_refused_whole(tmp_path: Path) -> None:
    rows = [medmcqa_row(number, cop=number % 4) for number in range(8)]
    with pytest.raises(UserError, match=r"dev\.json: cop is 0 in 2 of 8 rows and 4 in none, so it counts from 0"):
        load_questions(MEDMCQA, medmcqa_file(tmp_path, rows))


def test_a_file_in_which_every_row_is_bad_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"phrases.*: holds no question for medqa: 2 rows refused: line 1: .*jind11"):
        load_questions(MEDQA, medqa_file(tmp_path, [medqa_row(answer_idx=1), medqa_row(answer_idx="")]))
    with pytest.raises(UserError, match="holds no row"):
        load_questions(MEDQA, medqa_file(tmp_path, []))


def test_a_missing_file_is_named_with_its_origin(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"phrases_no_exclude_test\*\.jsonl.*https://github\.com/jind11/MedQA"):
        load_questions(MEDQA, str(tmp_path))
    with pytest.raises(UserError, match="no such folder"):
        load_questions(MEDQA, str(tmp_path / "nowhere"))


def test_a_line_separator_inside_a_question_does_not_divide_the_row(tmp_path: Path) -> None:
    row = json.dumps(medqa_row(question="First\u2028second\u0085third"), ensure_ascii=False)
    assert load_questions(MEDQA, medqa_file(tmp_path, [row])).items[0].question == "First\u2028second\u0085third"


def test_a_limit_keeps_the_same_questions_whatever_the_order_and_nests(sample_data: Path, tmp_path: Path) -> None:
    rows = (sample_data / "medmcqa" / "dev.generated.json").read_text().splitlines()
    turned = medmcqa_file(tmp_path, rows[::-1])
    ids = [{item.id for item in load_questions(MEDMCQA, str(sample_data), limit).items} for limit in (8, 16)]
    assert {item.id for item in load_questions(MEDMCQA, turned, 16).items} == ids[1]
    assert (len(ids[0]), len(ids[1])) == (8, 16)
    assert ids[0] < ids[1]
    with pytest.raises(UserError, match="at least 1"):
        load_questions(MEDMCQA, turned, 0)


def test_tasks_and_statistics_need_no_torch() -> None:
    code = "import sys, eval.tasks, eval.statistics; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
