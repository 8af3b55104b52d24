from collections import Counter
from pathlib import Path

import pytest

from base.errors import UserError
from eval.sample_questions import KINDS, write_sample_questions
from eval.task import load_questions
from eval.tasks import TASKS


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    bytes_of = {
        name: [Path(path).read_bytes() for path in write_sample_questions(str(tmp_path / name), n=30, seed=seed)]
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    }
    assert bytes_of["first"] == bytes_of["again"]
    assert bytes_of["first"] != bytes_of["other"]


@pytest.mark.parametrize("name", TASKS)
def test_every_generated_row_is_a_question_and_golds_are_balanced(tmp_path: Path, name: str) -> None:
    write_sample_questions(str(tmp_path), n=200)
    questions = load_questions(TASKS[name], str(tmp_path))
    assert (len(questions.items), questions.refused) == (200, ())
    assert Counter(item.gold for item in questions.items) == dict.fromkeys(range(4), 50)


def test_no_option_is_right_more_often_than_others_of_its_kind(tmp_path: Path) -> None:
    write_sample_questions(str(tmp_path), n=480)
    items = load_questions(TASKS["medmcqa"], str(tmp_path)).items
    right = Counter((item.subject, item.options[item.gold]) for item in items)
    for kind in KINDS:
        assert len({right[kind.subject, answer] for answer in kind.facts.values()}) == 1
        assert len(set(kind.facts.values())) == len(kind.facts)


def test_no_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 1"):
        write_sample_questions(str(tmp_path), n=0)
