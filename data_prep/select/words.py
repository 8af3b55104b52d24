"""Texts → hashes of their words and of runs of words, a batch at a time, without a Python step for each word.

A word is a run of ASCII letters and digits, in lower case, and of bytes above 127 (every other character of UTF-8, so
``β-catenin`` is two words and ``naïve`` one). A run longer than 64 bytes counts as several words of 64 bytes and a
rest. Hashes have 64 bits and depend on the word alone: not on the machine, the batch or Python's hash seed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

LONGEST = 64  # bytes of a word
SLICE = 1 << 18  # bytes of text worked on at a time: the arrays between then stay in the processor's cache
LOWER = bytes(
    byte + 32 if 65 <= byte <= 90 else byte if 48 <= byte <= 57 or 97 <= byte <= 122 or byte > 127 else 0
    for byte in range(256)
)  # what separates words becomes 0
OF_LENGTH = np.uint64(0x9E3779B97F4A7C15)  # odd numbers with bits well spread, as multipliers of hashes
OF_PIECE = np.uint64(0xD6E8FEB86659FD93)
OF_WORD = np.uint64(0xFF51AFD7ED558CCD)
OF_RUN = np.uint64(0xA0761D6478BD642F)
HALF, SHIFT = np.uint64(32), np.uint64(29)
# The bytes of a piece that belong to the word, by how many are left of it.
MASKS = np.array([(1 << 8 * left) - 1 for left in range(9)], dtype=np.uint64)


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


def words_of(texts: Sequence[str]) -> Words:
    """The words of each text.

    What it returns takes about 1.2 bytes for a byte of text; beside it, memory goes to 5 MB, however long a text is.
    """
    hashes, counts = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.int64)]
    for encoded in utf8_slices(texts):
        if len(encoded[0]) > SLICE:  # it has a slice of its own
            parts = [_hash([part])[0] for part in _cut_between_words(encoded[0])]
            hashes += parts
            counts.append(np.array([sum(map(len, parts))], dtype=np.int64))
            continue
        hashed, counted = _hash(encoded)
        hashes.append(hashed)
        counts.append(counted)
    return Words(np.concatenate(hashes), np.concatenate([[0], np.cumsum(np.concatenate(counts))]))


def runs_of(words: Words, length: int) -> Words:
    """Every run of ``length`` words inside one text (a shorter text has none), in their order, repeats included."""
    offsets = np.concatenate([[0], np.cumsum(np.maximum(words.counts - length + 1, 0))])
    return Words(runs_at_every_word(words, length)[begins_of_runs(words, length)], offsets)


def begins_of_runs(words: Words, length: int) -> NDArray[np.int64]:
    """At which words of the batch the runs of :func:`runs_of` begin."""
    fits = np.ones(max(len(words.hashes) - length + 1, 0), dtype=bool)
    for behind in range(1, length):  # the last words of a text begin runs that reach into the next
        starts = words.offsets[1:] - behind
        fits[starts[(starts >= words.offsets[:-1]) & (starts < len(fits))]] = False
    return np.flatnonzero(fits)


def runs_at_every_word(words: Words, length: int) -> NDArray[np.uint64]:
    """One hash for each run of ``length`` words in the batch, those that reach from one text into the next included.

    ``runs[i]`` belongs to the words ``i`` to ``i + length - 1``; there are ``length - 1`` fewer than words.
    """
    single = words.hashes
    number = len(single) - length + 1
    if number <= 0:
        return np.empty(0, dtype=np.uint64)
    # A polynomial in OF_RUN. From runs of n words come those of 2n, and of n + 1: so few steps for any length.
    runs, done = single, 1
    for bit in f"{length:b}"[1:]:
        power = np.uint64(pow(int(OF_RUN), done, 1 << 64))
        runs = runs[:-done] * power + runs[done:]
        done *= 2
        if bit == "1":
            runs = runs[:-1] * OF_RUN + single[done : done + len(runs) - 1]
            done += 1
    return _finish(runs)


def runs_beginning_at(words: Words, length: int, begins: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The same hashes for a few places alone, at none of which the batch may end before the run does."""
    runs = np.zeros(len(begins), dtype=np.uint64)
    for place in range(length):
        runs = runs * OF_RUN + words.hashes[begins + place]
    return _finish(runs)


def _finish(runs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    runs = runs ^ (runs >> HALF)
    runs *= OF_WORD
    runs ^= runs >> SHIFT
    return runs


def with_others(words: Words, places: Sequence[int], others: Words) -> Words:
    """The words of a batch in which the texts at these places (rising) were exchanged for others."""
    parts, done = [], 0
    for number, place in enumerate(places):
        parts.append(words.hashes[done : words.offsets[place]])
        parts.append(others.hashes[others.offsets[number] : others.offsets[number + 1]])
        done = int(words.offsets[place + 1])
    counts = words.counts
    counts[list(places)] = others.counts
    return Words(np.concatenate([*parts, words.hashes[done:]]), np.concatenate([[0], np.cumsum(counts)]))


def utf8_slices(texts: Sequence[str]) -> Iterator[list[bytes]]:
    """The texts in UTF-8, so many together that they fill a slice."""
    gathered: list[bytes] = []
    size = 0
    for text in texts:
        encoded = text.encode()
        if gathered and size + len(encoded) > SLICE:
            yield gathered
            gathered, size = [], 0
        gathered.append(encoded)
        size += len(encoded) + 1
    if gathered:
        yield gathered


def _cut_between_words(encoded: bytes) -> Iterator[bytes]:
    """A text in parts of at most a slice, which have the same words as the whole."""
    begin = 0
    while len(encoded) - begin > SLICE:
        # Behind the last byte that separates words; a run as long as the slice is cut at a multiple of LONGEST anyway.
        inside = encoded[begin : begin + SLICE].translate(LOWER).rfind(b"\0") + 1
        yield encoded[begin : begin + (inside or SLICE)]
        begin += inside or SLICE
    yield encoded[begin:]


def _hash(encoded: list[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hashes of all words of a slice, and how many each text has."""
    # A byte between texts, so that no word reaches across; one before all and enough behind for the last piece.
    data = np.frombuffer(b"\0".join([b"", *encoded, bytes(LONGEST)]).translate(LOWER), dtype=np.uint8)
    inside = data != 0
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    if len(lengths) and lengths.max() > LONGEST:
        starts, lengths = _cut(starts, lengths)

    lengths = lengths.astype(np.uint64)
    hashes = lengths * OF_LENGTH
    # The eight bytes that begin at each byte, as little-endian numbers.
    pieces = as_strided(data[:8].view("<u8"), shape=(len(data) - 7,), strides=(1,))
    hashes = _mix(hashes ^ (pieces[starts] & MASKS[np.minimum(lengths, 8)]))
    long = np.flatnonzero(lengths > 8)
    for begin in range(8, LONGEST, 8):
        if not len(long):
            break
        left = lengths[long] - np.uint64(begin)
        hashes[long] = _mix(hashes[long] ^ (pieces[starts[long] + begin] & MASKS[np.minimum(left, 8)]))
        long = long[left > 8]
    hashes *= OF_WORD
    hashes ^= hashes >> SHIFT

    ends = np.cumsum([len(text) + 1 for text in encoded])
    counts = np.diff(np.searchsorted(starts, ends), prepend=0)
    return hashes, counts.astype(np.int64)


def _mix(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    hashes *= OF_PIECE
    hashes ^= hashes >> HALF
    return hashes


def _cut(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs as words of at most LONGEST bytes."""
    number = (lengths + LONGEST - 1) // LONGEST
    which = np.repeat(np.arange(len(starts)), number)
    before = LONGEST * (np.arange(len(which)) - np.repeat(np.cumsum(number) - number, number))
    return starts[which] + before, np.minimum(lengths[which] - before, LONGEST)
