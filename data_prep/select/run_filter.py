"""A first look for a few runs of words among many: all of them pass, and hardly any other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.select.words import Words

BITS_A_RUN = 32  # one run of 32 passes by chance
LEAST_BITS = 16


@dataclass(frozen=True)
class RunFilter:
    """Runs of ``length`` words.

    Attributes:
        bits: eight to a byte, one for each value of a hash's upper bits.
    """

    length: int
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, length: int, hashes: NDArray[np.uint64]) -> "RunFilter":
        """Passed by the runs that have these hashes."""
        upper = max(LEAST_BITS, (len(hashes) * BITS_A_RUN - 1).bit_length())
        bits = np.zeros(1 << upper, dtype=bool)
        bits[hashes >> np.uint64(64 - upper)] = True
        return cls(length, np.packbits(bits, bitorder="little"))

    def passed_in(self, words: Words) -> NDArray[np.int64]:
        """The words of a batch at which runs begin that pass, those from one text into the next included."""
        from data_prep.select.word_hashes import find_runs

        places = np.empty(len(words.hashes), dtype=np.int64)
        return places[: find_runs(words.hashes, self.length, self.bits, places)].copy()
