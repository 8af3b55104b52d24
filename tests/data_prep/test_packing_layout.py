"""The split, the order, the place of each token, and the cut into sequences."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from base.errors import UserError
from data_prep.documents import document_keys, held_out, is_validation, mixed
from data_prep.shards.best_fit import best_fit, pack
from data_prep.shards.packing import Layout, lay_out, shuffled, split_documents
from data_prep.shards.shuffling import GatherTask, cut, gather, save_layout

LENGTH = 16
EOS = 7
LENGTHS = [1, 5, 40, 16, 15, 17, 1, 1, 33, 16, 100, 3, 31, 15, 47, 9, 9, 2, 4, 12]


class Corpus:
    """Documents in two files of ids; each document's tokens are its own number, then 1000 and up."""

    def __init__(self, folder: Path, lengths: list[int], order: list[int] | None = None):
        self.folder = folder
        self.rows = order or list(range(len(lengths)))
        self.texts = [np.array([100 + row, *range(1000, 999 + lengths[row])], dtype=np.uint16) for row in self.rows]
        half = len(lengths) // 2
        self.parts = [folder / "0.ids.npy", folder / "1.ids.npy"]
        folder.mkdir(exist_ok=True)
        for path, group in zip(self.parts, (self.texts[:half], self.texts[half:]), strict=True):
            np.save(path, np.concatenate(group))
        self.length = np.array([lengths[row] for row in self.rows], dtype=np.int32)
        self.keys = document_keys(f"pmid:{row}" for row in self.rows)

    def lay_out(self, packing: str, seed: int = 0) -> Layout:
        rows = shuffled(np.arange(len(self.rows), dtype=np.int32), self.keys, seed)
        layout = lay_out(rows, self.length, packing, seed, LENGTH)
        half = len(self.rows) // 2
        save_layout(layout, self.folder, self.length, [half, len(self.rows) - half])
        for number, path in enumerate(self.parts):
            gather(GatherTask(path, self.folder, number))
        return layout

    def cut(self, first: int, last: int) -> NDArray[np.uint16]:
        return cut(self.folder, first, last, LENGTH, EOS)


@pytest.mark.parametrize(("packing", "separator"), [("concat", ()), ("eos", (EOS,))])
def test_the_sequences_are_the_documents_end_to_end(tmp_path: Path, packing: str, separator: tuple[int, ...]) -> None:
    corpus = Corpus(tmp_path, LENGTHS)
    layout = corpus.lay_out(packing)
    stream = np.concatenate([np.concatenate((corpus.texts[row], separator)) for row in layout.document])
    assert layout.sequences * LENGTH + layout.tail == len(stream) == sum(LENGTHS) + len(separator) * len(LENGTHS)
    assert layout.padding == 0 and 0 < layout.tail < LENGTH
    assert (corpus.cut(0, layout.sequences).reshape(-1) == stream[: layout.sequences * LENGTH]).all()
    in_one = sum(
        begin // LENGTH == (begin + len(corpus.texts[row]) - 1) // LENGTH
        for row, begin in zip(layout.document, layout.start, strict=True)
    )
    assert layout.documents - layout.documents_cut == in_one


@pytest.mark.parametrize("packing", ["concat", "eos", "best_fit"])
def test_the_cut_is_the_same_wherever_a_shard_begins(tmp_path: Path, packing: str) -> None:
    corpus = Corpus(tmp_path, LENGTHS)
    layout = corpus.lay_out(packing)
    whole = corpus.cut(0, layout.sequences)
    for first in range(layout.sequences):
        for last in range(first + 1, layout.sequences + 1):
            assert (corpus.cut(first, last) == whole[first:last]).all()


@pytest.mark.parametrize("packing", ["concat", "eos", "best_fit"])
def test_the_sequences_depend_on_seed_and_ids_alone(tmp_path: Path, packing: str) -> None:
    backwards = list(range(len(LENGTHS) - 1, -1, -1))
    corpus, other = Corpus(tmp_path / "a", LENGTHS), Corpus(tmp_path / "b", LENGTHS, backwards)
    layout = corpus.lay_out(packing, seed=1)
    assert other.lay_out(packing, seed=1).sequences == layout.sequences
    assert (corpus.cut(0, layout.sequences) == other.cut(0, layout.sequences)).all()
    other.lay_out(packing, seed=2)
    assert not (corpus.cut(0, layout.sequences) == other.cut(0, layout.sequences)).all()


def test_best_fit_leaves_whole_what_fits_and_cuts_the_rest_into_full_sequences(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, LENGTHS)
    layout = corpus.lay_out("best_fit")
    stream = corpus.cut(0, layout.sequences).reshape(-1)
    pieces: dict[int, list[tuple[int, NDArray[np.uint16], int]]] = {}
    covered = np.zeros(len(stream), dtype=int)
    for row, begin, tokens, start in zip(layout.document, layout.begin, layout.tokens, layout.start, strict=True):
        assert start // LENGTH == (start + tokens - 1) // LENGTH
        pieces.setdefault(int(row), []).append((int(begin), stream[start : start + tokens], int(tokens)))
        covered[start : start + tokens] += 1
    assert covered.max() == 1
    assert (stream[covered == 0] == EOS).all() and int((covered == 0).sum()) == layout.padding
    for row, text in enumerate(corpus.texts):
        parts = sorted(pieces[row], key=lambda part: part[0])
        assert all(tokens == LENGTH for _, _, tokens in parts[:-1])
        ids = np.concatenate([part for _, part, _ in parts])
        separated = len(text) % LENGTH != 0  # the separator of one that fills its sequences would stand alone
        assert ids.tolist() == [*text.tolist(), *[EOS] * separated]
    assert layout.tail == 0 and layout.documents_cut == sum(length > LENGTH for length in LENGTHS)


def test_best_fit_is_the_textbook_rule_item_by_item() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        capacity = int(rng.integers(8, 60))
        lengths = np.sort(rng.integers(1, capacity + 1, int(rng.integers(1, 300))).astype(np.int32))[::-1]
        place, number = best_fit(lengths, capacity)
        filled = np.bincount(place, weights=lengths, minlength=number)
        rooms: list[int] = []
        for length in lengths.tolist():
            fitting = [room for room in rooms if room >= length]
            if fitting:
                rooms[rooms.index(min(fitting))] -= length
            else:
                rooms.append(capacity - length)
        assert len(place) == len(lengths) and number == len(rooms)
        assert sorted(capacity - filled) == sorted(rooms)


def test_packing_fills_no_sequence_too_far_and_leaves_less_room_than_best_fit_alone() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        capacity = int(rng.integers(8, 60))
        lengths = np.sort(rng.integers(1, capacity + 1, int(rng.integers(1, 300))).astype(np.int32))[::-1]
        place, number = pack(lengths, capacity)
        filled = np.bincount(place, weights=lengths, minlength=number)
        assert len(place) == len(lengths) and filled.min() > 0 and filled.max() <= capacity
        assert len(filled) == number <= best_fit(lengths, capacity)[1] * 1.1 + 1
    rng = np.random.default_rng(0)
    lengths = np.sort(np.clip(rng.lognormal(np.log(310), 0.4, 50_000), 20, 1024).astype(np.int32))[::-1]
    waste = {rule: rule(lengths, 1024)[1] * 1024 / lengths.sum() - 1 for rule in (pack, best_fit)}
    assert waste[pack] < 0.001 < 0.004 < waste[best_fit]


def test_a_document_never_changes_sides_when_the_corpus_grows() -> None:
    names = [f"pmid:{number}" for number in range(20_000)]
    keys = document_keys(names)
    length = np.full(len(names), 100, dtype=np.int32)
    small, _ = split_documents(keys[:5000], length[:5000], 0.02, LENGTH)
    large, added = split_documents(keys, length, 0.02, LENGTH)
    assert (small == large[:5000]).all() and added == 0
    assert 0.015 < large.mean() < 0.025
    assert [is_validation(name, 0.02) for name in names[:2000]] == held_out(keys, 0.02)[:2000].tolist()


def test_a_tiny_corpus_still_gets_a_validation_sequence() -> None:
    keys = document_keys(f"pmid:{number}" for number in range(12))
    length = np.full(12, 10, dtype=np.int32)
    validation, added = split_documents(keys, length, 0.0001, LENGTH)
    assert validation.sum() == added == 2 and keys[validation, 0].max() < keys[~validation, 0].min()
    with pytest.raises(UserError, match="too few"):
        split_documents(keys[:3], length[:3], 0.0001, LENGTH)


def test_mixing_is_one_to_one_and_another_map_for_each_seed() -> None:
    words = np.arange(50_000, dtype=np.uint64)
    first, second = mixed(words, 1), mixed(words, -1)
    assert len(np.unique(first)) == len(words) and not (first == second).any()
