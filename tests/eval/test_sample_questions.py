from collections import Counter
from pathlib import Path

import pytest

from base.errors import UserError
from data_prep.select.benchmarks_text import read_questions
from eval.official_files import load_questions
from eval.sample_facts import GENERAL, MEDICAL
from eval.sample_questions import write_sample_questions
from eval.tasks import TASKS, protocols


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    bytes_of = {
        name: [Path(path).read_bytes() for path in write_sample_questions(str(tmp_path / name), n=30, seed=seed)]
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    }
    assert bytes_of["first"] == bytes_of["again"]
    assert not set(bytes_of["first"]) & set(bytes_of["other"])


@pytest.mark.parametrize("n", [1, 7, 120])
def test_every_generated_row_is_a_question_and_golds_are_balanced(tmp_path: Path, n: int) -> None:
    write_sample_questions(str(tmp_path), n)
    for protocol in protocols(list(TASKS)):
        questions = load_questions(protocol, str(tmp_path))
        assert (len(questions.items), questions.refused) == (n, ())
        golds = Counter(item.gold for item in questions.items)
        options = len(questions.items[0].options)
        assert all(n // options <= golds[place] <= -(-n // options) for place in range(options)), protocol.name
        assert all(len(set(item.options)) == options for item in questions.items)


def test_generated_questions_are_never_taken_for_a_known_release(tmp_path: Path) -> None:
    paths = write_sample_questions(str(tmp_path), n=3)
    assert all("generated" in Path(path).name for path in paths)
    for protocol in protocols(list(TASKS)):
        assert load_questions(protocol, str(tmp_path)).release is None


def test_data_preparation_reads_all_generated_files_but_those_of_examples(tmp_path: Path) -> None:
    write_sample_questions(str(tmp_path), n=3)
    left_out = read_questions(tmp_path).left_out
    assert len(left_out) == 4 and all("train.generated" in name for name in left_out)


def test_no_option_is_right_more_often_than_others_of_its_kind(tmp_path: Path) -> None:
    write_sample_questions(str(tmp_path), n=480)
    (protocol,) = protocols(["medmcqa"])
    items = load_questions(protocol, str(tmp_path)).items
    right = Counter((item.subject, item.options[item.gold]) for item in items)
    for kind in MEDICAL:
        assert len({right[kind.subject, answer] for answer in kind.facts.values()}) == 1
    for kind in (*MEDICAL, *GENERAL):
        assert len(set(kind.facts.values())) == len(kind.facts)


def test_the_answer_of_a_study_is_in_its_text_and_in_no_other_part(tmp_path: Path) -> None:
    write_sample_questions(str(tmp_path), n=60)
    (protocol,) = protocols(["pubmedqa"])
    items = load_questions(protocol, str(tmp_path)).items
    results = {(item.gold, item.passages[-1].split()[0]) for item in items}
    assert results == {(0, "There"), (1, "With"), (2, "A")}
    assert len({item.passages[0].split()[0] for item in items}) == 1


def test_no_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 1"):
        write_sample_questions(str(tmp_path), n=0)
