"""A loop over the bytes of many texts: how many of their characters are letters, and how their lines lie."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

U8, U64 = np.uint8, np.uint64
LINE_FEED = U8(10)
BLOCK = U64(64)  # bytes; only in those with a line feed lines are looked for


@njit(cache=True)
def count_letters(data: NDArray[np.uint8], offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
    """Four numbers for each text into ``counts`` (int64[texts, 4]): its letters, its characters that are no space (or
    control character), all its characters, and the bytes of its longest line.

    Text ``i`` is ``data[offsets[i]:offsets[i + 1]]`` (uint8, UTF-8; int64). After 0xC2 come signs of Latin-1 (±, µ, °),
    after 0xE2 dashes, arrows and operators; what begins with another byte above is mostly a letter, and counts as one.
    """
    for text in range(U64(len(counts))):
        begin, end = U64(offsets[text]), U64(offsets[text + U64(1)])
        letters, others, characters = 0, 0, 0
        line, longest = begin, U64(0)
        while begin < end:
            last = min(begin + BLOCK, end)
            line_feeds = 0
            for place in range(begin, last):  # without a branch: many bytes are looked at in one step
                byte = data[place]
                letters += (U8((byte | U8(32)) - U8(97)) < U8(26)) | ((byte >= U8(0xC3)) & (byte != U8(0xE2)))
                begins_character = (byte & U8(0xC0)) != U8(0x80)
                others += begins_character & (byte > U8(32))
                characters += begins_character
                line_feeds += byte == LINE_FEED
            if line_feeds:
                for place in range(begin, last):
                    if data[place] == LINE_FEED:
                        longest = max(longest, place - line)
                        line = place + U64(1)
            begin = last
        counts[text, 0], counts[text, 1], counts[text, 2] = letters, others, characters
        counts[text, 3] = max(longest, end - line)
