"""The shuffle of the tokens: each lands where the layout says, however many are copied at a time."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_prep.documents import document_keys
from data_prep.shards import shuffling
from data_prep.shards.copying import copy_runs
from data_prep.shards.packing import Layout, lay_out, shuffled
from data_prep.shards.shuffling import GatherTask, cut, gather, gathered_path, save_layout

LENGTH, EOS, TOKENS = 16, 999, 900
DOCUMENTS = (30, 0, 1, 41)  # of each file
CHECK = "NUMBA_BOUNDSCHECK"


def made(folder: Path, packing: str) -> tuple[Layout, list[NDArray[np.uint16]], NDArray[np.int32]]:
    """Files of ids, the tokens of each document, and a layout of two thirds of the documents."""
    random = np.random.default_rng(3)
    lengths = random.integers(0, 60, sum(DOCUMENTS)).astype(np.int32)
    texts = [random.integers(0, TOKENS, length).astype(np.uint16) for length in lengths]
    first = 0
    for part, number in enumerate(DOCUMENTS):
        np.save(folder / f"{part}.ids.npy", np.concatenate([np.empty(0, np.uint16), *texts[first : first + number]]))
        first += number
    keys = document_keys(f"pmid:{number}" for number in range(len(lengths)))
    rows = shuffled(np.flatnonzero(np.arange(len(lengths)) % 3).astype(np.int32), keys, seed=1)
    return lay_out(rows, lengths, packing, 1, LENGTH), texts, lengths


@pytest.mark.parametrize("packing", ["eos", "concat", "best_fit"])
@pytest.mark.parametrize("copied", [1, 100, 4 << 20])
def test_every_token_lands_where_the_layout_says(
    tmp_path: Path, packing: str, copied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffling, "COPIED", copied)
    layout, texts, lengths = made(tmp_path, packing)
    expected = np.full(layout.sequences * LENGTH + layout.tail, EOS, dtype=np.uint16)
    for row, begin, tokens, start in zip(layout.document, layout.begin, layout.tokens, layout.start, strict=True):
        piece = texts[row][begin : begin + tokens]
        expected[start : start + len(piece)] = piece

    save_layout(layout, tmp_path / "layout", lengths, DOCUMENTS)
    for part in range(len(DOCUMENTS)):
        gather(GatherTask(tmp_path / f"{part}.ids.npy", tmp_path / "layout", part))
    for bounds in ([0, layout.sequences], [0, 1, 2, 9, layout.sequences - 1, layout.sequences]):
        shards = [cut(tmp_path / "layout", first, last, LENGTH, EOS) for first, last in pairwise(bounds)]
        assert np.array_equal(np.concatenate(shards).ravel(), expected[: layout.sequences * LENGTH])
    sizes = [gathered_path(tmp_path / "layout", part).stat().st_size for part in range(len(DOCUMENTS))]
    assert sum(sizes) == 2 * sum(len(texts[row]) for row in set(layout.document.tolist())) and sizes[1] == 0


def test_no_copy_leaves_its_arrays(tmp_path: Path) -> None:
    if os.environ.get(CHECK):  # this very test, in the process that it has started: numba would raise
        with pytest.raises(IndexError):
            one = np.ones(1, dtype=np.int64)
            copy_runs(one.astype(np.uint16), one, one.astype(np.int32), one.astype(np.uint16), one)
        return
    environment = os.environ | {CHECK: "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
