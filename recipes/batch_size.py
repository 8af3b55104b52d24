"""How many sequences each batch holds when the batch grows: arithmetic alone. Imports nothing heavy."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchSizes:
    """A batch that doubles until it is full (Merrill et al. 2025, arXiv 2505.23971).

    They measure the size beyond which a larger batch wastes tokens: near 0 at the start, it rises fast and then stays.
    Their batches double as it grows. GPT-3 (Brown et al. 2020, 2005.14165, appendix B) ramped linearly, from 32k tokens
    over the first 4 to 12 billion; doubled sizes are those that ranks and microbatches divide. The learning rate
    follows its schedule alone; OLMo-core multiplies it by √2 with each doubling.

    The size is a function of the sequences trained before the batch, and of nothing else: not of ranks, nor of epochs,
    whose incomplete last batch is dropped and counts nothing. So a resumed run needs to know no more.

    Args:
        full: sequences of a batch after the last doubling, over all ranks; 2 to the number of doublings divides it.
        double_at: sequences, ascending: the first batch that begins there or later is twice as large.
    """

    full: int
    double_at: tuple[int, ...] = ()

    @property
    def first(self) -> int:
        """The smallest size. Each later one is a multiple of it."""
        return self.full >> len(self.double_at)

    def at(self, samples: int) -> int:
        """Sequences of the batch before which ``samples`` were trained."""
        return self.first << bisect_right(self.double_at, samples)

    def stages(self) -> Iterator[tuple[int, int, int]]:
        """Of each size in turn: the sequences and the batches trained before its first batch, and the size."""
        samples = batches = 0
        for number, end in enumerate((*self.double_at, None)):
            size = self.first << number
            if end is None or samples < end:  # else the stage before it has gone past its end
                yield samples, batches, size
            if end is not None:
                steps = max(0, -(-(end - samples) // size))
                samples, batches = samples + steps * size, batches + steps

    def batches(self, samples: int) -> int:
        """The fewest batches that train at least so many sequences."""
        begin, before, size = [stage for stage in self.stages() if stage[0] <= samples][-1]
        return before + -(-(samples - begin) // size)

    def samples(self, batches: int) -> int:
        """The sequences that so many batches train."""
        begin, before, size = [stage for stage in self.stages() if stage[1] <= batches][-1]
        return begin + (batches - before) * size

    def whole_batches(self, before: int, samples: int) -> int:
        """The batches that ``samples`` sequences fill, after ``before`` were trained."""
        end, number = before + samples, 0
        while (size := self.at(before)) <= end - before:
            before, number = before + size, number + 1
        return number
