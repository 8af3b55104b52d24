import pytest

from eval.statistics import histogram, majority_baseline, wilson_interval


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (69, 100, 0.594, 0.772),  # BioMedLM on MMLU Medical Genetics
        (0, 10, 0.0, 0.2775),  # Newcombe 1998 gives these for 0 of 10
        (10, 10, 0.7225, 1.0),
        (15, 148, 0.0624, 0.1605),  # Newcombe 1998, table I
    ],
)
def test_wilson_interval_matches_known_values(correct: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(correct, n) == pytest.approx((low, high), abs=5e-4)


def test_wilson_interval_of_nothing_excludes_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_refuses_more_right_answers_than_questions() -> None:
    with pytest.raises(ValueError, match="3 correct of 2"):
        wilson_interval(3, 2)


def test_majority_baseline_is_the_score_of_one_letter_over_all_questions() -> None:
    assert majority_baseline([0, 0, 1, 3], n=5) == 0.4  # the fifth has no gold, and no letter is right there


def test_histogram_does_not_count_what_was_not_answered() -> None:
    assert histogram([0, None, 2, 2], options=4) == [1, 0, 2, 0]
