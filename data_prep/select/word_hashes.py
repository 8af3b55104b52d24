"""Loops over the bytes and words of many texts: the hashes of words and of runs of words, and which of these runs pass
a filter. What words and hashes are is told in ``words.py``, which imports this file when it has work for it: numba
takes a third of a second to import.

Bytes lie end to end as Arrow lays them: text ``i`` is ``data[offsets[i]:offsets[i + 1]]``. Numbers that index are
unsigned, so that none is ever taken from the end of an array.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

LONGEST = 64  # bytes of a word
# Odd numbers with bits well spread, as multipliers of hashes.
OF_LENGTH = np.uint64(0x9E3779B97F4A7C15)
OF_PIECE = np.uint64(0xD6E8FEB86659FD93)
OF_WORD = np.uint64(0xFF51AFD7ED558CCD)
OF_RUN = np.uint64(0xA0761D6478BD642F)
# 1 for bytes that belong to words: ASCII letters and digits, and all of other characters.
INSIDE = np.array(
    [48 <= byte <= 57 or 65 <= byte <= 90 or 97 <= byte <= 122 or byte > 127 for byte in range(256)], dtype=np.uint8
)
BLOCK = 4096  # bytes of which the words are found before any is hashed

U8, U64 = np.uint8, np.uint64
ALL = U64(0xFFFFFFFFFFFFFFFF)
HIGHEST = U64(0x8080808080808080)  # the bit of each byte that ASCII lacks
PIECE = U64(8)  # bytes that are hashed at once


@njit(cache=True)
def most_words(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> int:
    """At least as many as there are words, and few more."""
    found = 0
    for text in range(U64(len(offsets) - 1)):
        was = U8(0)
        for place in range(U64(offsets[text]), U64(offsets[text + U64(1)])):
            inside = INSIDE[data[place]]
            found += inside & (was ^ U8(1))
            was = inside
    return found + len(data) // LONGEST


@njit(cache=True)
def hash_words(
    data: NDArray[np.uint8], offsets: NDArray[np.int64], hashes: NDArray[np.uint64], ends: NDArray[np.int64]
) -> None:
    """The hash of each word into ``hashes`` (uint64, with room for all), and how many there are up to the end of each
    text into ``ends`` (int64, one a text)."""
    begins, stops = np.empty(BLOCK, dtype=np.uint64), np.empty(BLOCK, dtype=np.uint64)
    number = U64(0)
    for text in range(U64(len(ends))):
        first, end = U64(offsets[text]), U64(offsets[text + U64(1)])
        begin, was = first, U8(0)
        while first < end:
            last = min(first + U64(BLOCK), end)
            found = U64(0)
            for place in range(first, last):  # without a branch, for no processor could foresee it
                inside = INSIDE[data[place]]
                begins[found], stops[found] = begin, place
                found += U64(was & (inside ^ U8(1)))
                begin = begin if was else U64(place)
                was = inside
            if last == end and was:  # a block has far fewer runs than bytes, so there is room
                begins[found], stops[found] = begin, end
                found += U64(1)
            for run in range(found):  # here and in no function: a call with arrays takes longer than to hash a word
                begin_of_word = begins[run]
                while begin_of_word < stops[run]:
                    length = min(stops[run] - begin_of_word, U64(LONGEST))
                    hashes[number] = _hash_word(data, begin_of_word, length)
                    number += U64(1)
                    begin_of_word += length
            first = last
        ends[text] = number


@njit(cache=True)
def _hash_word(data: NDArray[np.uint8], begin: np.uint64, length: np.uint64) -> np.uint64:
    hashed = (length * OF_LENGTH ^ _piece(data, begin, min(length, PIECE))) * OF_PIECE
    hashed ^= hashed >> U64(32)
    done = PIECE
    while done < length:
        hashed = (hashed ^ _piece(data, begin + done, min(length - done, PIECE))) * OF_PIECE
        hashed ^= hashed >> U64(32)
        done += PIECE
    hashed *= OF_WORD
    return hashed ^ hashed >> U64(29)


@njit(cache=True)
def _load(data: NDArray[np.uint8], place: np.uint64) -> np.uint64:
    """Eight bytes, or as many as are left; a function of its own, for so the first case compiles to one step."""
    if place + PIECE <= U64(len(data)):
        return (
            U64(data[place])
            | U64(data[place + U64(1)]) << U64(8)
            | U64(data[place + U64(2)]) << U64(16)
            | U64(data[place + U64(3)]) << U64(24)
            | U64(data[place + U64(4)]) << U64(32)
            | U64(data[place + U64(5)]) << U64(40)
            | U64(data[place + U64(6)]) << U64(48)
            | U64(data[place + U64(7)]) << U64(56)
        )
    piece = U64(0)
    shift = U64(0)
    while place < U64(len(data)):
        piece |= U64(data[place]) << shift
        place += U64(1)
        shift += U64(8)
    return piece


@njit(cache=True)
def _piece(data: NDArray[np.uint8], place: np.uint64, length: np.uint64) -> np.uint64:
    """Up to eight bytes of a word, in lower case, as a little-endian number."""
    piece = _load(data, place)
    piece |= (~piece & HIGHEST) >> U64(2)  # sets the bit by which a small letter differs, and which every digit has
    return piece & ALL >> U64(8) * (PIECE - length)


@njit(cache=True)
def hash_runs(hashes: NDArray[np.uint64], offsets: NDArray[np.int64], length: int, runs: NDArray[np.uint64]) -> None:
    """The hash of each run of ``length`` words inside one text into ``runs`` (uint64, as many as there are); text
    ``i`` has the words ``hashes[offsets[i]:offsets[i + 1]]``."""
    number = U64(0)
    for text in range(U64(len(offsets) - 1)):
        first, end = U64(offsets[text]), U64(offsets[text + U64(1)])
        while first + U64(length) <= end:
            runs[number] = _hash_run_at(hashes, first, U64(length))
            number += U64(1)
            first += U64(1)


@njit(cache=True)
def hash_runs_at(hashes: NDArray[np.uint64], length: int, begins: NDArray[np.int64], runs: NDArray[np.uint64]) -> None:
    """The hash of the run that begins at each of these words (int64) into ``runs``; it must end before the batch."""
    for number in range(U64(len(begins))):
        runs[number] = _hash_run_at(hashes, U64(begins[number]), U64(length))


@njit(cache=True)
def find_runs(hashes: NDArray[np.uint64], length: int, bits: NDArray[np.uint8], places: NDArray[np.int64]) -> np.uint64:
    """At which words runs of ``length`` words begin that pass a filter, those from one text into the next included,
    into ``places`` (int64, with room for one a word); returns their number.

    ``bits`` (uint8) has a bit for each value of the upper bits of a run's hash; their number is a power of two.
    """
    shift = U64(64)
    while U64(1) << (U64(64) - shift) < U64(8 * len(bits)):
        shift -= U64(1)
    found = U64(0)
    for first in range(U64(max(len(hashes) - length + 1, 0))):
        bit = _hash_run_at(hashes, U64(first), U64(length)) >> shift
        places[found] = first
        found += U64(bits[bit >> U64(3)] >> U8(bit & U64(7)) & U8(1))
    return found


@njit(cache=True)
def _hash_run_at(hashes: NDArray[np.uint64], first: np.uint64, length: np.uint64) -> np.uint64:
    """A polynomial in OF_RUN, its bits mixed."""
    run = U64(0)
    for place in range(first, first + length):
        run = run * OF_RUN + hashes[place]
    run ^= run >> U64(32)
    run *= OF_WORD
    return run ^ run >> U64(29)
