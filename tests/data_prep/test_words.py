"""Hashes of words and of runs of words are those of the plain definition, on any text and in any batch."""

import os
import random
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_prep.select.run_filter import RunFilter
from data_prep.select.words import begins_of_runs, chosen, runs_beginning_at, runs_of, with_others, words_of

MANY = (1 << 64) - 1
WORD, RUN = 2483440298423531282, 5422287665280129531


def plain_words(text: str) -> list[bytes]:
    """The definition, a word at a time."""
    runs = re.findall(rb"[a-z0-9\x80-\xff]+", re.sub(rb"[A-Z]", lambda m: m[0].lower(), text.encode()))
    return [run[begin : begin + 64] for run in runs for begin in range(0, len(run), 64)]


def plain_hash(word: bytes) -> int:
    value = len(word) * 0x9E3779B97F4A7C15 & MANY
    for begin in range(0, len(word), 8):
        value = (value ^ int.from_bytes(word[begin : begin + 8], "little")) * 0xD6E8FEB86659FD93 & MANY
        value ^= value >> 32
    value = value * 0xFF51AFD7ED558CCD & MANY
    return value ^ value >> 29


def plain_run(hashes: list[int]) -> int:
    value = 0
    for hashed in hashes:
        value = (value * 0xA0761D6478BD642F + hashed) & MANY
    value = (value ^ value >> 32) * 0xFF51AFD7ED558CCD & MANY
    return value ^ value >> 29


def made_texts(seed: int, number: int) -> list[str]:
    """Words of every length, signs, other scripts, empty texts, texts without a word, runs longer than a word."""
    dice = random.Random(seed)
    pieces = [
        " ", "\n", "-", "\0", "β", "é", "½", "μm", "细胞", "😀", "A", "z", "0", "Protein", "x" * 7, "y" * 8, "w" * 9,
        "ACGT" * 16, "ACGT" * 16 + "A", "g" * 130, "@[`{",
    ]  # fmt: skip
    texts = ["".join(dice.choices(pieces, k=dice.randrange(40))) for _ in range(number)]
    return ["", *texts, "", "a", "...", "end"]


def test_hashes_are_those_of_the_plain_definition() -> None:
    for seed in range(20):
        texts = made_texts(seed, 60)
        words = words_of(texts)
        expected = [[plain_hash(word) for word in plain_words(text)] for text in texts]
        assert words.counts.tolist() == [len(each) for each in expected]
        assert words.hashes.tolist() == [hashed for each in expected for hashed in each]
        for length in (1, 2, 3, 5, 8, 12, 13):
            runs = runs_of(words, length)
            plain = [[plain_run(e[i : i + length]) for i in range(len(e) - length + 1)] for e in expected]
            if length == 1:
                assert len(runs.hashes) == len(words.hashes)
            assert runs.counts.tolist() == [len(each) for each in plain]
            assert runs.hashes.tolist() == [hashed for each in plain for hashed in each]
            begins = begins_of_runs(words, length)
            assert (runs_beginning_at(words, length, begins) == runs.hashes).all()


def test_large_texts_agree_with_the_plain_definition() -> None:
    texts = [" ".join(made_texts(seed, 300)) for seed in range(200)]  # many blocks of one loop, in one text
    texts.insert(3, " ".join(texts[:60]))
    assert len(texts[3].encode()) > 1 << 19
    words = words_of(texts)
    assert words.counts.tolist() == [len(plain_words(text)) for text in texts]
    first, last = words.offsets[100], words.offsets[101]
    assert words.hashes[first:last].tolist() == [plain_hash(word) for word in plain_words(texts[100])]


def test_a_text_of_many_blocks_agrees_with_the_plain_definition() -> None:
    dice = random.Random(5)
    words = " ".join(dice.choice(("a", "βγ", "w" * 9, "x" * 70, "protein")) for _ in range(200_000))
    texts = ["before", words, "one" * 300_000, f"{'y' * (1 << 18)} {'z' * 100}", "." * 600_000, "after"]
    found = words_of(texts)
    plain = [plain_words(text) for text in texts]
    assert found.counts.tolist() == [len(each) for each in plain]
    known = {word: plain_hash(word) for each in plain for word in each}
    assert found.hashes.tolist() == [known[word] for each in plain for word in each]


def test_memory_for_a_long_text_is_that_of_its_hashes() -> None:
    text = "protein of mice " * 1_000_000
    tracemalloc.start()
    words = words_of([text])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(text) + 2 * words.hashes.nbytes + (12 << 20)  # numpy reports to tracemalloc


def test_hashes_do_not_depend_on_the_batch() -> None:
    texts = made_texts(7, 100)
    together = words_of(texts)
    alone = [words_of([text]) for text in texts]
    assert (together.hashes == np.concatenate([each.hashes for each in alone])).all()
    runs = runs_of(together, 5)
    assert (runs.hashes == np.concatenate([runs_of(each, 5).hashes for each in alone])).all()
    assert len(words_of([]).hashes) == 0 and words_of([]).offsets.tolist() == [0]
    assert len(runs_of(words_of([]), 5).hashes) == 0 and len(runs_of(words_of(["a b"]), 3).hashes) == 0
    part = pa.array(texts, pa.string())[17:60]  # its bytes begin and end in the middle
    assert (words_of(part).hashes == together.hashes[together.offsets[17] : together.offsets[60]]).all()
    with pytest.raises(ValueError, match="1 of 2 texts are null"):
        words_of(pa.array(["a", None]))


def test_a_filter_is_passed_by_what_it_was_made_of_and_by_little_else() -> None:
    words = words_of(made_texts(3, 4000))
    last = len(words.hashes)
    for length in (1, 3, 8):
        begins = np.arange(last - length + 1)
        runs = runs_beginning_at(words, length, begins)
        wanted = np.unique(runs[::1000])
        passed = RunFilter.of(length, wanted).passed_in(words)
        assert (np.diff(passed) > 0).all() and np.isin(begins[np.isin(runs, wanted)], passed).all()
        assert len(passed) - np.isin(runs, wanted).sum() < last / 16
    assert len(RunFilter.of(3, wanted).passed_in(words_of(["a b"]))) == 0


def test_words_are_left_out_and_exchanged_with_their_texts() -> None:
    texts = made_texts(9, 50)
    words, kept = words_of(texts), np.arange(len(texts)) % 3 > 0
    left, fresh = chosen(words, kept), words_of([text for text, keep in zip(texts, kept, strict=True) if keep])
    assert (left.hashes == fresh.hashes).all() and (left.offsets == fresh.offsets).all()
    texts[4], texts[20] = "other words", ""
    other, fresh = with_others(words, [4, 20], words_of(["other words", ""])), words_of(texts)
    assert (other.hashes == fresh.hashes).all() and (other.offsets == fresh.offsets).all()


@pytest.mark.slow
def test_no_loop_leaves_its_arrays(tmp_path: Path) -> None:
    """With numba's checks of every index, which are off otherwise, the same comes out."""
    tests = [Path(__file__), Path(__file__).with_name("test_quality.py")]
    chosen = ["-k", "those_of or batch or filter or plain"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, *tests],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout


def test_hashes_never_change() -> None:
    """Stored signatures are compared with those of later runs, and of other machines and hash seeds."""
    code = (
        "from data_prep.select.words import words_of, runs_of; w = words_of(['Interleukin-6 and TNF-α in sepsis']);"
        "print(w.hashes.tolist()[0], runs_of(w, 5).hashes.tolist()[-1])"
    )
    root = Path(__file__).parents[2]
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=root, env={"PYTHONHASHSEED": seed, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True,
        ).stdout.strip()
        for seed in ("0", "1")
    }  # fmt: skip
    words = [plain_hash(word) for word in plain_words("Interleukin-6 and TNF-α in sepsis")]
    assert printed == {f"{words[0]} {plain_run(words[-5:])}"}
    assert words[0] == WORD and plain_run(words[-5:]) == RUN


def test_numba_waits_until_there_is_work() -> None:
    code = "import sys, data_prep.pipeline, data_prep.select.stage; print('numba' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr


def test_different_words_have_different_hashes_with_all_bits_in_use() -> None:
    words = words_of([" ".join(f"{number}" for number in range(100_000)), " ".join("a" * n for n in range(1, 65))])
    assert len(np.unique(words.hashes)) == 100_064
    runs = runs_of(words, 2).hashes
    assert len(np.unique(runs)) == len(runs)
    for bit in range(64):
        share = (words.hashes >> np.uint64(bit) & np.uint64(1)).mean()
        assert 0.49 < share < 0.51, f"bit {bit} is set in {share:.1%} of the words"
