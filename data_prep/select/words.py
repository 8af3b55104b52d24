"""Texts → hashes of their words and of runs of words, a batch at a time, without a Python step for each word.

A word is a run of ASCII letters and digits, in lower case, and of bytes above 127 (every other character of UTF-8, so
``β-catenin`` is two words and ``naïve`` one). A run longer than 64 bytes counts as several words of 64 bytes and a
rest. Hashes have 64 bits and depend on the word alone: not on the machine, the batch or Python's hash seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Words:
    """The words of a batch of texts, or runs of them.

    Attributes:
        hashes: uint64, text after text.
        offsets: int64, one more than there are texts: text ``i`` has ``hashes[offsets[i]:offsets[i + 1]]``.
    """

    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many each text has."""
        return np.diff(self.offsets)


def words_of(texts: Sequence[str] | pa.Array) -> Words:
    """The words of each text; takes about 1.2 bytes for a byte of text, however long a text is."""
    from data_prep.select.word_hashes import hash_words, most_words

    data, offsets = utf8_of(texts if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string()))
    hashes = np.empty(most_words(data, offsets), dtype=np.uint64)
    ends = np.zeros(len(offsets), dtype=np.int64)
    hash_words(data, offsets, hashes, ends[1:])
    return Words(hashes[: ends[-1]], ends)


def utf8_of(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of an array of strings without nulls, and where in them each text begins, and the last one ends."""
    if texts.null_count:
        raise ValueError(f"{texts.null_count} of {len(texts)} texts are null")
    _, places, content = texts.buffers()
    if not len(texts):
        return np.empty(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(places, dtype=width)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = np.frombuffer(content or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    data.flags.writeable = False  # always, so that one form of each loop over it is compiled
    return data, offsets - offsets[0]


def runs_of(words: Words, length: int) -> Words:
    """Every run of ``length`` words inside one text (a shorter text has none), in their order, repeats included."""
    from data_prep.select.word_hashes import hash_runs

    offsets = np.concatenate([[0], np.cumsum(np.maximum(words.counts - length + 1, 0))])
    runs = np.empty(offsets[-1], dtype=np.uint64)
    hash_runs(words.hashes, words.offsets, length, runs)
    return Words(runs, offsets)


def begins_of_runs(words: Words, length: int) -> NDArray[np.int64]:
    """At which words of the batch the runs of :func:`runs_of` begin."""
    fits = np.ones(max(len(words.hashes) - length + 1, 0), dtype=bool)
    for behind in range(1, length):  # the last words of a text begin runs that reach into the next
        starts = words.offsets[1:] - behind
        fits[starts[(starts >= words.offsets[:-1]) & (starts < len(fits))]] = False
    return np.flatnonzero(fits)


def runs_beginning_at(words: Words, length: int, begins: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The hashes of the runs that begin at some words, at none of which the batch may end before the run does."""
    from data_prep.select.word_hashes import hash_runs_at

    runs = np.empty(len(begins), dtype=np.uint64)
    hash_runs_at(words.hashes, length, begins, runs)
    return runs


def with_others(words: Words, places: Sequence[int], others: Words) -> Words:
    """The words of a batch in which the texts at these places (rising) were exchanged for others."""
    if not places:
        return words
    parts, done = [], 0
    for number, place in enumerate(places):
        parts.append(words.hashes[done : words.offsets[place]])
        parts.append(others.hashes[others.offsets[number] : others.offsets[number + 1]])
        done = int(words.offsets[place + 1])
    counts = words.counts
    counts[list(places)] = others.counts
    return Words(np.concatenate([*parts, words.hashes[done:]]), np.concatenate([[0], np.cumsum(counts)]))


def chosen(words: Words, which: NDArray[np.bool_]) -> Words:
    """The words of those texts of a batch for which ``which`` is true."""
    counts = words.counts
    return Words(words.hashes[np.repeat(which, counts)], np.concatenate([[0], np.cumsum(counts[which])]))
