"""Best-fit packing of many chunks into sequences of one length, exactly and in seconds.

Best fit decreasing takes the chunks from the longest to the shortest and puts each into the open sequence with the
least room that still takes it (Ding et al., "Fewer Truncations Improve Language Modeling", ICML 2024). All chunks of
one length are placed here in one step a room, so the work grows with the number of lengths and rooms that occur,
hardly with the number of chunks.
"""

import numpy as np
from numpy.typing import NDArray


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
