"""Statistics of two models on the same questions, against values counted out or simulated."""

from itertools import product

import numpy as np
import pytest

from eval.paired import benjamini_hochberg, mcnemar_exact, paired_bootstrap, smallest_detectable_difference


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 1), (3, 3), (2, 9), (9, 2), (0, 12), (5, 7)])
def test_mcnemar_is_the_share_of_coin_tosses_at_least_as_uneven(b: int, c: int) -> None:
    tosses = [abs(2 * sum(toss) - b - c) for toss in product((0, 1), repeat=b + c)]
    assert mcnemar_exact(b, c) == sum(toss >= abs(b - c) for toss in tosses) / len(tosses)


def test_mcnemar_of_ten_thousand_discordant_questions_is_near_the_normal_distribution() -> None:
    assert mcnemar_exact(4900, 5100) == pytest.approx(0.0466, abs=1e-4)  # of z = 199 / 100
    assert mcnemar_exact(5000, 5000) == 1.0
    assert mcnemar_exact(0, 10_000) == 0.0  # below the smallest float
    assert 0 < mcnemar_exact(0, 1000) < 1e-300


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="-1"):
        mcnemar_exact(-1, 3)


def test_bootstrap_of_right_and_wrong_is_that_of_drawn_questions() -> None:
    """Drawing counts of each difference is drawing questions: compared with the latter, written out."""
    generator = np.random.default_rng(0)
    first, second = generator.random(300) < 0.4, generator.random(300) < 0.5
    difference = second.astype(float) - first
    drawn = difference[generator.integers(300, size=(20_000, 300))].mean(axis=1)
    low, high = paired_bootstrap(first, second, seed=1, draws=20_000)
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.005)
    assert low < difference.mean() < high


def test_bootstrap_takes_other_numbers_and_many_more_draws_than_fit_at_once() -> None:
    generator = np.random.default_rng(0)
    first = generator.normal(size=2000)
    second = first + generator.normal(0.1, 1.0, size=2000)
    low, high = paired_bootstrap(first, second, seed=1, draws=2000)
    half = 1.96 * (second - first).std() / 2000**0.5
    assert (low, high) == pytest.approx(((second - first).mean() - half, (second - first).mean() + half), abs=0.006)


def test_bootstrap_is_decided_by_its_seed() -> None:
    first, second = [1, 0, 1, 1, 0, 0, 1], [1, 1, 1, 0, 1, 0, 1]
    assert paired_bootstrap(first, second, 3, draws=50) == paired_bootstrap(first, second, 3, draws=50)
    assert len({paired_bootstrap(np.arange(9) ** 2, np.arange(9), seed, draws=50) for seed in range(5)}) > 1
    low, high = paired_bootstrap(first, second, 3)
    assert paired_bootstrap(second, first, 3) == pytest.approx((-high, -low), abs=1e-9)


def test_bootstrap_holds_the_true_difference_as_often_as_it_says() -> None:
    """95 % of 400 simulated pairs of models: 0.95 ± 0.04 allows nearly four of its standard errors."""
    generator = np.random.default_rng(7)
    held = 0
    for trial in range(400):
        kind = generator.choice(4, size=500, p=[0.35, 0.08, 0.12, 0.45])  # both right, the first, the second, none
        low, high = paired_bootstrap(kind < 2, (kind == 0) | (kind == 2), seed=trial, draws=1000)
        held += low <= 0.04 <= high
    assert held / 400 == pytest.approx(0.95, abs=0.04)


def test_pairing_tells_models_apart_that_two_intervals_do_not() -> None:
    first = np.arange(1000) < 480
    second = (np.arange(1000) < 480) | (np.arange(1000) >= 980)
    assert paired_bootstrap(first, second, seed=0)[0] > 0.01
    assert mcnemar_exact(0, 20) < 1e-5


@pytest.mark.parametrize("values", [[], [[1, 0]], [1.0, float("nan")]])
def test_bootstrap_refuses_what_are_no_values_of_questions(values: list[float]) -> None:
    with pytest.raises(ValueError, match="one of each question"):
        paired_bootstrap(values, values, seed=0)
    with pytest.raises(ValueError):
        paired_bootstrap([1, 0, 1], [1, 0], seed=0)


@pytest.mark.parametrize(("n", "points"), [(100, 12.5), (500, 5.6), (1273, 3.5), (4183, 1.9)])
def test_smallest_detectable_difference_where_a_fifth_of_questions_flips(n: int, points: float) -> None:
    assert 100 * smallest_detectable_difference(n, 0.2) == pytest.approx(points, abs=0.05)


def test_the_smallest_detectable_difference_is_found_about_as_often_as_it_says() -> None:
    n, discordant = 1273, 0.2
    gap = smallest_detectable_difference(n, discordant)
    chances = [(discordant - gap) / 2, (discordant + gap) / 2, 1 - discordant]
    drawn = np.random.default_rng(9).multinomial(n, chances, size=1000)
    found = np.mean([mcnemar_exact(int(b), int(c)) <= 0.05 for b, c, _ in drawn])
    assert found == pytest.approx(0.8, abs=0.06)  # the exact test is a little conservative


def test_benjamini_hochberg_matches_values_worked_out_by_hand() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([0.9, 0.6]) == pytest.approx([0.9, 0.9])
    assert benjamini_hochberg([0.03]) == [0.03] and benjamini_hochberg([]) == []
