"""Near duplicates are found as the definition says, whatever the order and number of files."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from base.errors import UserError
from data_prep.schema import NearDuplicates
from data_prep.select import near_duplicates
from data_prep.select.near_duplicates import band_keys, find, signatures
from data_prep.select.words import runs_of, words_of

SETTINGS = NearDuplicates()
FIRST, KEYS = [3773688999, 3391225119, 3333826774], [4484314674638691685, 0, 12772960131346383082]


def text(dice: random.Random, words: int = 200) -> str:
    return " ".join(f"w{dice.randrange(5000)}" for _ in range(words))


def edited(dice: random.Random, original: str, words: int) -> str:
    """The text with so many words replaced: each changes up to five runs of five words."""
    parts = original.split()
    for place in dice.sample(range(len(parts)), words):
        parts[place] = f"new{dice.randrange(10**6)}"
    return " ".join(parts)


def stored(folder: Path, parts: Sequence[NDArray[np.uint32]]) -> tuple[list[Path], list[Path]]:
    """Signatures as files, and their band keys."""
    folder.mkdir(exist_ok=True)
    for number, part in enumerate(parts):
        np.save(folder / f"{number}.bands.npy", band_keys(part, SETTINGS))
        np.save(folder / f"{number}.signatures.npy", part)
    return (
        [folder / f"{number}.bands.npy" for number in range(len(parts))],
        [folder / f"{number}.signatures.npy" for number in range(len(parts))],
    )


def families(seed: int) -> list[str]:
    """150 texts; 50 of them have two slightly edited copies each (about 0.9 similar), 30 a distant one (about 0.3)."""
    dice = random.Random(seed)
    originals = [text(dice) for _ in range(150)]
    near = [edited(dice, original, dice.choice((0, 1, 2))) for original in originals[:50] for _ in range(2)]
    return [*originals, *near, *(edited(dice, original, 25) for original in originals[50:80])]


def similarity(one: str, other: str) -> float:
    a, b = (set(runs_of(words_of([each]), 5).hashes.tolist()) for each in (one, other))
    return len(a & b) / len(a | b)


def test_signatures_estimate_the_share_of_common_runs() -> None:
    texts = families(1)
    rows = signatures(words_of(texts), SETTINGS)
    errors = []
    for place in range(50):
        for copy in (150 + 2 * place, 151 + 2 * place):
            errors.append((rows[place] == rows[copy]).mean() - similarity(texts[place], texts[copy]))
    for place in range(50, 80):
        errors.append((rows[place] == rows[200 + place]).mean() - similarity(texts[place], texts[200 + place]))
    assert abs(float(np.mean(errors))) < 0.02 and float(np.std(errors)) < 0.05


def test_signatures_never_change() -> None:
    """They are stored between runs and compared across machines: another release of rensa must not slip in."""
    rows = signatures(words_of(["one two three four five six seven", "one two three four", "a b c d e"]), SETTINGS)
    assert rows.shape == (3, 112) and rows.dtype == np.uint32
    assert rows[0, :3].tolist() == FIRST
    assert [int(key) for key in band_keys(rows, SETTINGS)[0]] == KEYS


def test_each_group_keeps_its_member_of_lowest_priority(tmp_path: Path) -> None:
    rows = signatures(words_of(families(2)), SETTINGS)
    files = stored(tmp_path, np.split(rows, [17, 17, 160]))
    number = len(rows)
    for priority in (np.arange(number), np.arange(number)[::-1], np.random.default_rng(3).permutation(number) * 7):
        dropped, representative = find(*files, np.arange(number), priority, 0.8)
        assert dropped.sum() == 100
        for place in range(50):
            family = np.array([place, 150 + 2 * place, 151 + 2 * place])
            stays = family[np.argmin(priority[family])]
            assert not dropped[stays]
            assert {int(representative[each]) for each in family if each != stays} == {int(stays)}
        assert (representative[~dropped] == -1).all()


def test_order_and_number_of_files_change_nothing(tmp_path: Path) -> None:
    texts = families(4)
    rows = signatures(words_of(texts), SETTINGS)
    number = len(rows)
    priority = np.random.default_rng(5).permutation(number)
    dropped, representative = find(*stored(tmp_path / "one", [rows]), np.arange(number), priority, 0.8)
    other = np.random.default_rng(6).permutation(number)  # row i of the other files is row other[i] of the first
    files = stored(tmp_path / "many", np.array_split(rows[other], 7))
    shuffled = np.random.default_rng(7).permutation(number)  # and chosen is in any order
    again, instead = find(*files, shuffled, priority[other[shuffled]], 0.8)
    assert (again == dropped[other[shuffled]]).all()
    back = np.where(instead >= 0, other[instead], -1)
    assert (back == representative[other[shuffled]]).all()


def test_only_chosen_rows_count(tmp_path: Path) -> None:
    same = signatures(words_of(["the same words again and again in all of them"] * 4), SETTINGS)
    files = stored(tmp_path, [same[:2], same[2:]])
    dropped, representative = find(*files, np.array([1, 3]), np.array([9, 4]), 0.8)
    assert dropped.tolist() == [True, False] and representative.tolist() == [3, -1]
    dropped, _ = find(*files, np.array([], dtype=np.int64), np.array([], dtype=np.int64), 0.8)
    assert dropped.tolist() == []


def test_texts_shorter_than_a_run_match_nothing(tmp_path: Path) -> None:
    rows = signatures(words_of(["too short here", "too short here", "", "", "now these are five words"]), SETTINGS)
    dropped, _ = find(*stored(tmp_path, [rows]), np.arange(5), np.arange(5), 0.1)
    assert not dropped.any()


def made_signatures(agreeing: Sequence[Sequence[int]], seed: int = 0) -> NDArray[np.uint32]:
    """A row for each list: place ``j`` holds a number that is common to all rows with the same entry there."""
    numbers = np.random.default_rng(seed).integers(0, 1 << 31, (1000, 112), dtype=np.uint32)
    return np.array([[numbers[entry, place] for place, entry in enumerate(row)] for row in agreeing])


def test_what_is_joined_through_another_is_joined(tmp_path: Path) -> None:
    """A and C agree in 80 places of 112, each of them in 96 with B: B joins them, although 0.8 asks for 90."""
    a, b = [0] * 112, [1] * 16 + [0] * 96
    c = [1] * 16 + [0] * 80 + [2] * 16
    rows = made_signatures([c, a, b])
    dropped, representative = find(*stored(tmp_path, [rows]), np.arange(3), np.array([0, 1, 2]), 0.8)
    assert dropped.tolist() == [False, True, True] and representative.tolist() == [-1, 0, 0]
    dropped, _ = find(*stored(tmp_path, [rows[:2]]), np.arange(2), np.array([0, 1]), 0.8)
    assert not dropped.any()


def test_a_shared_bucket_alone_is_no_reason(tmp_path: Path) -> None:
    """The threshold is met by 90 places of 112 and not by 89."""
    rows = made_signatures([[0] * 112, [0] * 90 + [1] * 22, [0] * 89 + [2] * 23])
    dropped, _ = find(*stored(tmp_path, [rows]), np.arange(3), np.arange(3), 0.8)
    assert dropped.tolist() == [False, True, False]


def test_a_large_bucket_of_unlike_texts_costs_no_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3,000 documents that share one band and nothing else, with 100 pairs of equal ones among them."""
    numbers = np.random.default_rng(8).integers(0, 1 << 31, (3000, 112), dtype=np.uint32)
    numbers[:, :8] = 5
    numbers[2900:] = numbers[:100]
    compared = 0
    alike = near_duplicates._Signatures.alike

    def counted(stored: near_duplicates._Signatures, one: NDArray[np.int64], other: NDArray[np.int64]) -> object:
        nonlocal compared
        compared += len(one)
        return alike(stored, one, other)

    monkeypatch.setattr(near_duplicates._Signatures, "alike", counted)
    dropped, _ = find(*stored(tmp_path, [numbers]), np.arange(3000), np.arange(3000), 0.8)
    assert dropped[2900:].all() and dropped.sum() == 100
    assert compared < 14 * 200 + 3000 * near_duplicates.LEADERS + 14 * 3000


def test_groups_are_those_of_a_plain_search_over_all_pairs(tmp_path: Path) -> None:
    """On signatures at random distances around the threshold, in small buckets."""
    dice = np.random.default_rng(9)
    rows = dice.integers(0, 1 << 31, (60, 112), dtype=np.uint32).repeat(6, axis=0)
    for row in range(len(rows)):
        places = dice.permutation(112)[: dice.integers(0, 24)]
        rows[row, places] = dice.integers(0, 1 << 31, len(places))
    priority = dice.permutation(len(rows))
    keys = band_keys(rows, SETTINGS)
    group = list(range(len(rows)))
    for one in range(len(rows)):
        for other in range(one):
            if (keys[:, one] == keys[:, other]).any() and (rows[one] == rows[other]).sum() >= 90:
                group = [group[one] if each == group[other] else each for each in group]
    stays = {each: min((priority[row], row) for row in range(len(rows)) if group[row] == each)[1] for each in group}
    expected = [-1 if stays[each] == row else stays[each] for row, each in enumerate(group)]
    _, representative = find(*stored(tmp_path, np.array_split(rows, 3)), np.arange(len(rows)), priority, 0.8)
    assert representative.tolist() == expected


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    rows = made_signatures([[0] * 112] * 3)
    bands, numbers = stored(tmp_path, [rows, rows[:2]])
    with pytest.raises(UserError, match=r"0.bands.npy has 3 documents, .*1.signatures.npy has 2"):
        find(bands, numbers[::-1], np.arange(5), np.arange(5), 0.8)
    np.save(bands[1], band_keys(rows[:2], NearDuplicates(bands=7, rows=16)))
    with pytest.raises(UserError, match="make them anew"):
        find(bands, numbers, np.arange(5), np.arange(5), 0.8)
