"""The split, the order and the cut into sequences."""

from pathlib import Path

import numpy as np
import pytest

from base.errors import UserError
from data_prep.shards.packing import Documents, cut, lay_out, split_documents

LENGTH = 16


def corpus(tmp_path: Path, lengths: list[int]) -> tuple[Documents, list[Path], list[np.ndarray], list[str]]:
    """Documents in two files of ids; each document's tokens are its own number, then 1000 and up."""
    texts = [np.array([row, *range(1000, 1000 + length - 1)], dtype=np.uint16) for row, length in enumerate(lengths)]
    half = len(texts) // 2
    paths = []
    for number, group in enumerate((texts[:half], texts[half:])):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], np.concatenate(group))
    length = np.array(lengths)
    begin = np.concatenate([np.cumsum(part) - part for part in (length[:half], length[half:])])
    part = np.array([0] * half + [1] * (len(texts) - half), dtype=np.int32)
    return Documents(part, begin, np.arange(len(texts)), length), paths, texts, [f"pmid:{i}" for i in range(len(texts))]


@pytest.mark.parametrize("separator", [(), (7,)])
def test_the_cut_equals_the_documents_end_to_end_wherever_a_shard_begins(
    tmp_path: Path, separator: tuple[int, ...]
) -> None:
    lengths = [1, 5, 40, 16, 15, 17, 1, 1, 33, 16, 100, 3]
    documents, paths, texts, names = corpus(tmp_path, lengths)
    layout = lay_out(documents, names, len(separator), 0, LENGTH)
    layout.save(tmp_path)
    stream = np.concatenate([np.concatenate((texts[row], separator)) for row in layout.documents.row])
    assert layout.sequences * LENGTH + layout.tail == len(stream) == sum(lengths) + len(separator) * len(lengths)
    whole = stream[: layout.sequences * LENGTH].reshape(-1, LENGTH)
    for first in range(layout.sequences):
        for last in range(first + 1, layout.sequences + 1):
            assert (cut(tmp_path, paths, first, last, LENGTH, separator) == whole[first:last]).all()


def test_a_document_never_changes_sides_when_the_corpus_grows() -> None:
    names = [f"pmid:{number}" for number in range(20_000)]
    length = np.full(len(names), 100)
    small, _ = split_documents(names[:5000], length[:5000], 0.02, LENGTH)
    large, added = split_documents(names, length, 0.02, LENGTH)
    assert (small == large[:5000]).all() and added == 0
    assert 0.015 < large.mean() < 0.025


def test_a_tiny_corpus_still_gets_a_validation_sequence() -> None:
    names = [f"pmid:{number}" for number in range(12)]
    validation, added = split_documents(names, np.full(12, 10), 0.0001, LENGTH)
    assert validation.sum() == added == 2
    with pytest.raises(UserError, match="too few"):
        split_documents(names[:3], np.full(3, 10), 0.0001, LENGTH)


def test_the_order_depends_on_seed_and_ids_alone(tmp_path: Path) -> None:
    documents, _, _, names = corpus(tmp_path, [3] * 50)
    order = [names[row] for row in lay_out(documents, names, 0, 1, LENGTH).documents.row]
    backwards = np.arange(49, -1, -1)
    again = lay_out(documents.at(backwards), [names[row] for row in backwards], 0, 1, LENGTH)
    assert [names[row] for row in again.documents.row] == order != names
    assert [names[row] for row in lay_out(documents, names, 0, 2, LENGTH).documents.row] != order
