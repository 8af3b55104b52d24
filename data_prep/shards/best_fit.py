"""Packing of many chunks into sequences of one length, with next to no room left, in seconds.

First sequences that are filled exactly are made: from the longest chunks to the shortest, some of one length with one
or two shorter ones, of each length as many as its share among those that would do. What is left (half a percent) is
placed by best fit decreasing (Ding et al., "Fewer Truncations Improve Language Modeling", ICML 2024): from the longest
to the shortest, each into the open sequence with the least room that still takes it. That rule alone leaves 0.40 % of
the room empty on lengths of real abstracts and 1,024 tokens, both together 0.01 %.

All chunks of one length are alike, so whole slices of them are placed at a time, and the work grows with the number of
lengths that occur, hardly with the number of chunks.
"""

import numpy as np
from numpy.typing import NDArray

Chunks = NDArray[np.int32]


def pack(lengths: Chunks, capacity: int) -> tuple[Chunks, int]:
    """Place chunks, given longest first, none longer than ``capacity``.

    Returns:
        The number of the sequence for each chunk, and how many sequences there are.
    """
    place = np.full(len(lengths), -1, dtype=np.int32)
    opened = _exact_fits(lengths, capacity, place)
    left = np.flatnonzero(place < 0)
    fitted, further = best_fit(lengths[left], capacity)
    place[left] = fitted + np.int32(opened)
    return place, opened + further


def _exact_fits(lengths: Chunks, capacity: int, place: Chunks) -> int:
    """Fill ``place`` for chunks that fill sequences exactly; returns the number of these sequences."""
    count = np.bincount(lengths, minlength=capacity + 1)
    following = np.concatenate((np.cumsum(count[::-1])[::-1][1:], [0]))  # first chunk of each length that has no place
    opened = 0

    def put(length: int, sequences: Chunks) -> None:
        at = following[length]
        place[at : at + len(sequences)] = sequences
        following[length] += len(sequences)
        count[length] -= len(sequences)

    for length in np.unique(lengths)[::-1].tolist():
        for several in range(1, capacity // length + 1):
            groups, room = int(count[length]) // several, capacity - several * length
            if not groups:
                break
            count[0] = groups  # no chunk at all: the other of the two then fills the room alone
            shorter = np.arange((room + 1) // 2) if room else np.zeros(1, dtype=np.int64)
            shorter = shorter[room - shorter < length]
            there = np.minimum(count[shorter], count[room - shorter])
            number = _shares(there, groups)
            begin = opened
            for one, wanted in zip(shorter[number > 0].tolist(), number[number > 0].tolist(), strict=True):
                sequences = np.arange(begin, begin + wanted, dtype=np.int32)
                for other in (one, room - one):
                    if other:
                        put(other, sequences)
                begin += wanted
            put(length, np.repeat(np.arange(opened, begin, dtype=np.int32), several))
            opened = begin
    return opened


def _shares(there: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """How many to take of each, ``wanted`` in all where there are so many; a chunk that fits alone goes first."""
    if len(there) and there[0] >= wanted:
        return np.where(np.arange(len(there)) == 0, wanted, 0)
    total = int(there.sum())
    return np.diff(np.cumsum(there) * min(wanted, total) // max(1, total), prepend=0)


def best_fit(lengths: NDArray[np.int32], capacity: int) -> tuple[NDArray[np.int32], int]:
    """Place chunks, given longest first, none longer than ``capacity``.

    Returns:
        The number of the sequence for each chunk, and how many sequences there are.
    """
    chosen = np.empty(len(lengths), dtype=np.int32)
    rooms = _Rooms()
    opened = 0
    changes = np.flatnonzero(np.diff(lengths)) + 1
    for at, end in zip([0, *changes.tolist()], [*changes.tolist(), len(lengths)], strict=True):
        while at < end:
            length = int(lengths[at])
            room = rooms.least(length)
            # A sequence that has just taken a chunk has the least room of all that could: it takes the next one too.
            each = (room or capacity) // length
            wanted = -(-(end - at) // each)
            if room is None:
                room, sequences = capacity, np.arange(opened, opened + wanted, dtype=np.int32)
                opened += wanted
            else:
                sequences = rooms.take(room, wanted)
            placed = min(end - at, len(sequences) * each)
            chosen[at : at + placed] = np.repeat(sequences, each)[:placed]
            filled = placed // each
            rooms.put(room - each * length, sequences[:filled])
            rooms.put(room - placed % each * length, sequences[filled:])
            at += placed
    return chosen, opened


class _Rooms:
    """The open sequences by the room that they have left."""

    def __init__(self) -> None:
        self._sequences: dict[int, list[NDArray[np.int32]]] = {}
        self._bits = 0  # bit r is set when a sequence with room r is open

    def least(self, length: int) -> int | None:
        """The smallest room of at least ``length``."""
        above = self._bits >> length
        return length + (above & -above).bit_length() - 1 if above else None

    def take(self, room: int, number: int) -> NDArray[np.int32]:
        """Up to so many sequences with this room; they are no longer open."""
        stack = self._sequences[room]
        sequences = stack.pop()
        if len(sequences) > number:
            stack.append(sequences[number:])
            return sequences[:number]
        if not stack:
            self._bits ^= 1 << room
        return sequences

    def put(self, room: int, sequences: NDArray[np.int32]) -> None:
        if room and len(sequences):
            self._sequences.setdefault(room, []).append(sequences)
            self._bits |= 1 << room
