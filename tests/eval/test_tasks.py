"""The tasks on the real and the generated files: questions, prompts, ids, examples."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from official_rows import load, medmcqa_file, medmcqa_row, medqa_file, medqa_row, pubmedqa_files, pubmedqa_row

from base.errors import UserError
from data_prep.select.benchmarks_text import read_questions
from eval.official_files import load_questions
from eval.prompts import prompt
from eval.tasks import GROUPS, TASKS, protocols

REAL = {  # golds by position, as counted in the files
    "medqa": (180, 147, 174, 135),
    "medqa_5options_dev": (256, 279, 245, 278, 214),
    "medmcqa": (896, 737, 620, 547),
    "pubmedqa": (276, 169, 55),
    "pubmedqa_reasoning_free": (276, 169, 55),
    "pubmedqa_question_only": (276, 169, 55),
    "bioasq_dev": (62, 13),
    "bioasq_golden": (253, 139),
    "mmlu_anatomy": (25, 34, 45, 31),
    "mmlu_clinical_knowledge": (57, 71, 58, 79),
    "mmlu_college_biology": (37, 32, 37, 38),
    "mmlu_medical_genetics": (30, 26, 20, 24),
    "mmlu_nutrition": (69, 70, 77, 90),
    "mmlu_high_school_biology": (55, 79, 78, 98),
}
WHOLE = [name for name in REAL if name not in ("medqa", "medmcqa")]


@pytest.mark.parametrize("name", REAL)
def test_every_row_of_the_real_files_is_a_question(real_data: Path, name: str) -> None:
    questions = load(name, real_data / "qa")
    assert (questions.n, questions.refused) == (sum(REAL[name]), ())
    assert tuple(sum(item.gold == place for item in questions.items) for place in range(len(REAL[name]))) == REAL[name]
    assert len({item.id for item in questions.items}) == questions.n


@pytest.mark.parametrize("name", WHOLE)
def test_whole_official_files_are_known_by_their_hashes(real_data: Path, name: str) -> None:
    assert "by SHA-256 the official" in load(name, real_data / "qa").describe()


def test_a_part_of_the_official_file_is_used_and_said(real_data: Path) -> None:
    said = load("medqa", real_data / "qa", limit=64).describe()
    assert "64 of 636 rows" in said
    assert "the official test has 1,273" in said


def test_the_official_test_of_pubmedqa_is_the_list_and_the_rest_are_examples(real_data: Path) -> None:
    questions = load("pubmedqa_cloze_450shot", real_data / "qa")
    truth = json.loads((real_data / "qa/pubmedqa/data/test_ground_truth.json").read_text())
    assert [item.id for item in questions.items] == list(truth)
    assert all(item.pmids == (int(item.id),) for item in questions.items)
    assert not {shot.id for shot in questions.shots} & truth.keys()


def test_files_of_which_one_has_other_bytes_are_no_known_release(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "qa/pubmedqa/data"
    pubmedqa_files(tmp_path, (folder / "ori_pqal.json").read_text(), (folder / "test_ground_truth.json").read_text())
    assert "by SHA-256" in load("pubmedqa", tmp_path).describe()
    pubmedqa_files(
        tmp_path, (folder / "ori_pqal.json").read_text() + "\n", (folder / "test_ground_truth.json").read_text()
    )
    assert "as many rows as the official test, whose bytes are others" in load("pubmedqa", tmp_path).describe()


def test_joined_snippets_are_cut_into_sentences_that_join_to_the_same_text(real_data: Path) -> None:
    questions = load("bioasq_dev", real_data / "qa")
    lines = (real_data / "qa/bioasq/blurb/dev.tsv").read_text().splitlines()
    for item, line in zip(questions.items, lines, strict=True):
        text = prompt(questions.protocol.form, item)
        assert text == f"Abstract: {line.split(chr(9))[2]}\nQuestion: {line.split(chr(9))[1]}\nAnswer:"
    assert sum(len(item.passages) for item in questions.items) > 10 * len(questions.items)


def test_letter_prompts_of_real_mmlu_questions_are_the_rows_as_published(real_data: Path) -> None:
    (protocol,) = protocols(["mmlu_nutrition_letter_5shot"])
    questions = load_questions(protocol, str(real_data / "qa"))

    def rows(split: str) -> list[list[str]]:
        with open(real_data / f"qa/mmlu/data/{split}/nutrition_{split}.csv", newline="", encoding="utf-8") as file:
            return list(csv.reader(file))

    def asked(row: list[str]) -> str:
        a, b, c, d = row[1:5]
        return f"{row[0].strip()}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:"

    before = "The following are multiple choice questions (with answers) about nutrition.\n\n"
    before += "".join(f"{asked(row)} {row[5]}\n\n" for row in rows("dev"))
    prompts = [prompt(protocol.form, item, questions.shots) for item in questions.items]
    assert prompts == [before + asked(row) for row in rows("test")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("medqa_letter", "Question: Why\nA. one\nB. two\nC. three\nD. four\nAnswer:"),
        ("medmcqa_letter", "Question: Why\nChoices:\nA. one\nB. two\nC. three\nD. four\nAnswer:"),
        ("medmcqa", "Question: Why\nAnswer:"),
    ],
)
def test_exam_prompts_keep_every_space(tmp_path: Path, name: str, expected: str) -> None:
    medqa_file(tmp_path, [medqa_row(question=" Why  ", options={"A": "one ", "B": "two", "C": "three", "D": "four"})])
    medmcqa_file(tmp_path, [medmcqa_row(question=" Why  ", opa="one ")])
    (protocol,) = protocols([name])
    (item,) = load_questions(protocol, str(tmp_path)).items
    assert prompt(protocol.form, item) == expected.replace("Why", " Why  ").replace("one", "one ")


def test_pubmedqa_is_asked_with_its_abstract_its_conclusion_or_nothing(tmp_path: Path) -> None:
    pubmedqa_files(tmp_path, {"11": pubmedqa_row()}, {"11": "yes"})
    asked = {}
    for name in ("pubmedqa", "pubmedqa_reasoning_free", "pubmedqa_question_only"):
        (protocol,) = protocols([name])
        (item,) = load_questions(protocol, str(tmp_path)).items
        asked[name] = prompt(protocol.form, item)
    assert asked == {
        "pubmedqa": "Abstract: It was wet.\nClouds came.\nQuestion: Does it rain?\nAnswer:",
        "pubmedqa_reasoning_free": "Abstract: It rains.\nQuestion: Does it rain?\nAnswer:",
        "pubmedqa_question_only": "Question: Does it rain?\nAnswer:",
    }


@pytest.mark.parametrize("where", ["real", "generated"])
def test_ids_are_those_by_which_data_preparation_names_contaminated_items(
    request: pytest.FixtureRequest, where: str
) -> None:
    folder = request.getfixturevalue("real_data") / "qa" if where == "real" else request.getfixturevalue("sample_data")
    known: dict[str, dict[str, list[int]]] = {}
    for item in read_questions(folder).items:
        known.setdefault(item.benchmark, {})[item.id] = item.pmids
    for name in REAL if where == "real" else TASKS:
        for one in load(name, folder).items:
            pmids = known[name.split("_")[0]][one.id]
            assert list(one.pmids) == pmids


def test_a_limit_keeps_the_same_questions_whatever_the_order_and_nests(sample_data: Path, tmp_path: Path) -> None:
    rows = (sample_data / "medmcqa" / "dev.generated.json").read_text().splitlines()
    turned = medmcqa_file(tmp_path, rows[::-1])
    ids = [{item.id for item in load("medmcqa", sample_data, limit).items} for limit in (8, 16)]
    assert {item.id for item in load("medmcqa", turned, 16).items} == ids[1]
    assert (len(ids[0]), len(ids[1])) == (8, 16)
    assert ids[0] < ids[1]
    with pytest.raises(UserError, match="at least 1"):
        load("medmcqa", turned, 0)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_asked_in_both_forms_with_and_without_shots(sample_data: Path, name: str) -> None:
    for form in ("cloze", "letter"):
        questions = load(f"{name}_{form}_2shot", sample_data)
        assert len(questions.shots) == 2
        item = questions.items[0]
        text = prompt(questions.protocol.form, item, questions.shots)
        assert text.count("Answer:") == 3 and text.endswith("\nAnswer:") and item.question in text
        assert (f"\nA. {item.options[0]}\nB. " in text) == (form == "letter")


def test_shots_of_mmlu_are_the_first_of_dev_in_order_and_never_more_than_there_are(sample_data: Path) -> None:
    shots = load("mmlu_virology_letter_5shot", sample_data).shots
    assert [shot.id for shot in shots] == [f"virology_dev.generated:{row}" for row in range(1, 6)]
    with pytest.raises(UserError, match="there are 5 examples for 6 shots"):
        load("mmlu_virology_letter_6shot", sample_data)


def test_groups_stand_for_their_tasks_and_a_wrong_name_for_its_nearest() -> None:
    assert [one.name for one in protocols(["mmlu_medical_letter_5shot"])] == [
        f"{name}_letter_5shot" for name in GROUPS["mmlu_medical"]
    ]
    assert Counter(len(names) for names in GROUPS.values()) == {9: 1, 6: 1}
    with pytest.raises(UserError, match="no task medqa_5option; did you mean medqa_5options"):
        protocols(["medqa_5option"])


def test_the_documentation_lists_every_task_with_its_rows_and_files() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    text = page.split("\n## Tasks\n")[1].split("\n## ")[0]
    lines = {line.split("|")[1].strip(" `"): line for line in text.splitlines() if line.startswith("| `")}
    for name, task in TASKS.items():
        release = task.scored.releases[0]
        if name.startswith("mmlu_"):
            assert f"{name.removeprefix('mmlu_').replace('_', ' ').replace('us h', 'US h')} {release.rows}" in " ".join(
                text.split()
            )
            continue
        if not task.scored.every:
            assert f"| {release.rows:,} |" in lines[name]
        file = task.scored.patterns[0] if task.scored.every else task.scored.patterns[0].replace("*", "")
        assert file.rpartition("/")[2] in lines[name] or "| the same |" in lines[name]
    assert set(lines) == {name for name in TASKS if not name.startswith("mmlu_")} | {"mmlu_SUBJECT"}


def test_tasks_and_statistics_need_no_torch() -> None:
    modules = "eval.tasks, eval.get, eval.statistics"
    code = f"import sys, {modules}; sys.exit(bool({{'torch', 'numpy', 'pyarrow'}} & {{*sys.modules}}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
