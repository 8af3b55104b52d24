import math
import random

import numpy as np
import pytest

from eval.statistics import (
    brier_score,
    calibration_bins,
    difference_interval,
    expected_calibration_error,
    histogram,
    macro_f1,
    majority_baseline,
    mean_interval,
    softmax,
    wilson_interval,
)


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


def test_softmax_is_the_share_of_each_likelihood() -> None:
    likelihoods = [0.2, 0.05, 0.25]
    assert softmax([math.log(one) for one in likelihoods]) == pytest.approx([0.4, 0.1, 0.5])
    assert softmax([-5000.0, -5000.0 + math.log(3)]) == pytest.approx([0.25, 0.75])  # whose exp is 0


def test_brier_score_is_lm_evals() -> None:
    """Its definition there, in its own words: the mean over documents of the sum of squares over one-hot golds."""
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet([1.0] * 4, size=50)
    golds = generator.integers(4, size=50)
    expected = np.mean(np.sum((probabilities - np.eye(4)[golds]) ** 2, axis=1))
    assert brier_score(probabilities.tolist(), golds.tolist()) == pytest.approx(expected)
    assert brier_score([[0.25] * 4], [2]) == pytest.approx(0.75)
    assert brier_score([[1.0, 0.0], [1.0, 0.0]], [0, 1]) == 1.0


def test_macro_f1_is_the_mean_of_each_options_precision_and_recall() -> None:
    generator = random.Random(3)
    pairs = [(generator.randrange(3), generator.choice([0, 0, 1, 2, None])) for _ in range(200)]
    scores = []
    for option in range(3):
        right = sum(pair == (option, option) for pair in pairs)
        precision = right / sum(prediction == option for _, prediction in pairs)
        recall = right / sum(gold == option for gold, _ in pairs)
        scores.append(2 * precision * recall / (precision + recall))
    assert macro_f1(pairs, 3) == pytest.approx(sum(scores) / 3)


def test_macro_f1_counts_an_option_that_is_never_right_and_leaves_out_one_that_is_nowhere() -> None:
    assert macro_f1([(0, 0), (1, 0)], 3) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1([(0, 0), (0, 1)], 3) == pytest.approx((2 / 3 + 0) / 2)  # 1 is answered, and never right
    assert macro_f1([(0, 0), (None, None)], 3) == 1.0
    assert macro_f1([(0, None)], 3) == macro_f1([], 3) == 0.0


def test_expected_calibration_error_by_hand() -> None:
    """Two bins of two: 0.5 and 0.6, one of them right; 0.8 and 0.9, both right."""
    probabilities = [(0.9, 0.1), (0.4, 0.6), (0.2, 0.8), (0.5, 0.3, 0.2)]
    golds = [0, 1, 1, 2]
    low, high = calibration_bins(probabilities, golds, bins=2)
    assert (low.n, low.probability, low.accuracy) == (2, pytest.approx(0.55), 0.5)
    assert (high.n, high.probability, high.accuracy) == (2, pytest.approx(0.85), 1.0)
    assert expected_calibration_error(probabilities, golds, bins=2) == pytest.approx((0.05 + 0.15) / 2)


def test_calibration_bins_hold_each_question_once_and_do_not_depend_on_their_order() -> None:
    generator = random.Random(5)
    questions = []
    for _ in range(173):
        first = generator.choice([0.5, 0.6, 0.61, 0.7, 0.93])  # so that many are equal
        questions.append(((first, 1 - first), generator.randrange(2)))
    found = calibration_bins(*zip(*questions, strict=True), bins=10)
    generator.shuffle(questions)
    again = calibration_bins(*zip(*questions, strict=True), bins=10)
    assert [one.n for one in found] == [one.n for one in again] and sum(one.n for one in found) == 173
    assert [one.accuracy for one in found] == pytest.approx([one.accuracy for one in again])
    different = [((0.5 + place / 400, 0.5 - place / 400), 0) for place in range(173)]
    assert {one.n for one in calibration_bins(*zip(*different, strict=True), bins=10)} == {17, 18}


def test_fewer_questions_than_bins_give_a_bin_each() -> None:
    assert [one.n for one in calibration_bins([(0.9, 0.1), (0.2, 0.8)], [0, 0], bins=10)] == [1, 1]


def test_a_calibrated_model_has_little_error_with_many_questions_and_not_with_few() -> None:
    generator = np.random.default_rng(2)

    def error(n: int) -> float:
        first = generator.uniform(0.5, 1.0, n)
        golds = (generator.random(n) > first).astype(int)
        return expected_calibration_error(list(zip(first.tolist(), (1 - first).tolist(), strict=True)), golds.tolist())

    assert error(20_000) < 0.02
    assert np.mean([error(100) for _ in range(20)]) > 0.06  # which is why few questions say nothing


@pytest.mark.parametrize(("probabilities", "golds"), [([], []), ([(0.5, 0.5)], []), ([(math.nan, 0.5)], [0])])
def test_calibration_of_nothing_or_of_no_numbers_is_refused(
    probabilities: list[tuple[float]], golds: list[int]
) -> None:
    for statistic in (brier_score, expected_calibration_error, calibration_bins):
        with pytest.raises(ValueError):
            statistic(probabilities, golds)


def test_mean_interval_of_one_task_is_wilsons_and_of_equal_ones_is_narrower_by_the_root() -> None:
    assert mean_interval([(69, 100)]) == pytest.approx(wilson_interval(69, 100))
    low, high = wilson_interval(69, 100)
    assert mean_interval([(69, 100)] * 4) == pytest.approx((0.69 - (0.69 - low) / 2, 0.69 + (high - 0.69) / 2))
    low, high = mean_interval([(100, 100), (0, 100)])
    assert low < 0.5 < high  # the normal approximation would say exactly 0.5


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """95 % of 2,000 draws: 0.95 ± 0.02 allows four of its standard errors."""
    generator = np.random.default_rng(4)
    sizes, chances = (100, 148, 1000), (0.3, 0.97, 0.5)
    held = differed = 0
    for _ in range(2000):
        parts = [(int(generator.binomial(n, chance)), n) for n, chance in zip(sizes, chances, strict=True)]
        low, high = mean_interval(parts)
        held += low <= sum(chances) / 3 <= high
        low, high = difference_interval(parts[0], parts[1])
        differed += low <= chances[0] - chances[1] <= high
    assert held / 2000 == pytest.approx(0.95, abs=0.02) and differed / 2000 == pytest.approx(0.95, abs=0.02)


def test_difference_interval_matches_known_values() -> None:
    """Newcombe 1998, table II, method 10."""
    assert difference_interval((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference_interval((9, 10), (3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert difference_interval((10, 10), (0, 10)) == pytest.approx((0.6075, 1.0), abs=5e-5)
