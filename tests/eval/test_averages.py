"""Averages of groups: macro and micro apart, and none of a part of a group."""

import pytest
from made_results import item, score

from eval.averages import averages
from eval.results import Score
from eval.statistics import wilson_interval

GROUPS = {"exams": ("small", "large"), "others": ("small", "missing")}


def of(task: str, right: int, n: int) -> Score:
    return score(task, [item(task, str(place), place < right) for place in range(n)])


def test_macro_counts_tasks_alike_and_micro_questions() -> None:
    found = averages({"small": of("small", 9, 10), "large": of("large", 30, 90)}, GROUPS)
    assert list(found) == ["exams"]  # the other group has a part without a score
    exams = found["exams"]
    assert exams.macro == pytest.approx((0.9 + 1 / 3) / 2) and exams.micro == 0.39
    assert (exams.members, exams.n, exams.correct) == (("small", "large"), 100, 39)
    assert exams.micro_ci95 == wilson_interval(39, 100)
    assert exams.macro_ci95[0] < exams.macro < exams.macro_ci95[1]


def test_protocols_are_averaged_with_those_of_the_same_form_and_shots_alone() -> None:
    small, large = of("small", 9, 10), of("large", 30, 90)
    assert averages({"small_letter_5shot": small, "large": large}, GROUPS) == {}
    both = {"small_letter_5shot": small, "large_letter_5shot": large, "small": small}
    assert list(averages(both, GROUPS)) == ["exams_letter_5shot"]


def test_the_average_is_of_the_primary_accuracy() -> None:
    lines = [item("small", "0", True, predictions={"acc": 1, "acc_norm": 0, "acc_bytes": 0, "acc_token": 0})]
    primary = {"small": score("small", lines, metric="acc")}
    assert averages(primary, {"one": ("small",)})["one"].macro == 0.0
