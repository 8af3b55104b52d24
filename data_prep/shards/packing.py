"""Which document goes where: the split, the order, and the place of each of its tokens.

A split is one stream of tokens, cut every ``max_seq_len`` into sequences. A *piece* is a run of one document's tokens
that stand together in it. What no piece covers holds ``<|endoftext|>``.

=============  ================================================================================================
``eos``        ours: each document, then ``<|endoftext|>``, end to end; the tail behind the last whole sequence is
               dropped. One piece a document.
``concat``     as BioMedLM's loader did: the same with nothing between.
``best_fit``   a document and its ``<|endoftext|>`` stand whole in one sequence. One that is longer is cut into full
               sequences and a rest, and the rest is placed like a short document (``best_fit.py``). The
               ``<|endoftext|>`` of a document that fills its last sequence is left out: it would stand alone. Room that
               is left at the end of a sequence is filled with ``<|endoftext|>``, on which the model is trained too
               (uint16[max_seq_len] holds no mask); the card counts it as ``padding_tokens``, about 0.01 % of a large
               corpus. Sequences are in an order that the seed chooses, and so are the documents in a sequence. No tail.
=============  ================================================================================================
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from base.errors import UserError
from data_prep.documents import held_out, mixed
from data_prep.shards.best_fit import pack

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Layout:
    """One split: its pieces in the order of the stream.

    Attributes:
        document: row among all documents.
        begin: first token of the piece among those of its document.
        tokens: of the piece, with the separator where it holds that.
        start: place of its first token in the stream.
        documents: how many lie in this split.
        documents_cut: how many of them do not lie in one sequence.
    """

    document: NDArray[np.int32]
    begin: NDArray[np.int32]
    tokens: NDArray[np.int32]
    start: NDArray[np.int64]
    sequences: int
    sequence_length: int
    documents: int
    documents_cut: int

    @property
    def tail(self) -> int:
        """Tokens behind the last whole sequence."""
        return max(0, int(self.start[-1]) + int(self.tokens[-1]) - self.sequences * self.sequence_length)

    @property
    def padding(self) -> int:
        """Places in the sequences that no piece covers."""
        return self.sequences * self.sequence_length + self.tail - int(self.tokens.sum(dtype=np.int64))


def split_documents(
    keys: NDArray[np.uint64], length: NDArray[np.int32], val_fraction: float, least: int
) -> tuple[NDArray[np.bool_], int]:
    """Which documents are for validation: those whose id hashes low, whatever else the corpus holds.

    Where these have fewer than ``least`` tokens, documents with the next higher hashes are added (their number is the
    second value): a corpus so small gets a validation set, and loses the promise that it grows with it.

    Raises:
        UserError: the corpus cannot fill one sequence of each split.
    """
    validation = held_out(keys, val_fraction)
    chosen = int(validation.sum())
    if int(length[validation].sum(dtype=np.int64)) < least:
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        running = np.cumsum(length[order], dtype=np.int64)
        validation[order[: int(np.searchsorted(running, least)) + 1]] = True
    left = int(length[~validation].sum(dtype=np.int64))
    if left < least:
        raise UserError(
            f"the documents hold {int(length.sum(dtype=np.int64))} tokens, too few for one training and one validation "
            f"sequence of {least} tokens each; give more files, or a smaller shards.max_seq_len"
        )
    return validation, int(validation.sum()) - chosen


def shuffled(rows: NDArray[np.int32], keys: NDArray[np.uint64], seed: int) -> NDArray[np.int32]:
    """Rows in an order by hashes of seed and id: it does not depend on files, workers or other documents."""
    chosen = keys[rows]
    return rows[np.lexsort((chosen[:, 0], mixed(chosen[:, 1], seed)))]


def lay_out(
    rows: NDArray[np.int32], length: NDArray[np.int32], packing: str, seed: int, sequence_length: int
) -> Layout:
    """Lay documents, given as shuffled rows of ``length`` (tokens without separator), into a stream."""
    if packing == "best_fit":
        return _whole(rows, length[rows] + 1, seed, sequence_length)
    separators = int(packing == "eos")
    tokens = length[rows] + np.int32(separators)
    start = np.cumsum(tokens, dtype=np.int64)
    sequences = int(start[-1]) // sequence_length
    start -= tokens
    cut = start // sequence_length != np.maximum(start, start + tokens - (1 + separators)) // sequence_length
    begin = np.zeros(len(rows), dtype=np.int32)
    return Layout(rows, begin, tokens, start, sequences, sequence_length, len(rows), int(cut.sum()))


def _whole(rows: NDArray[np.int32], total: NDArray[np.int32], seed: int, sequence_length: int) -> Layout:
    """Best fit. ``total``: tokens of each document with its separator."""
    full, rest = np.divmod(total, np.int32(sequence_length))
    rest[(rest == 1) & (full > 0)] = 0  # a separator alone
    by_length = np.argsort(sequence_length - rest, kind="stable")[: np.count_nonzero(rest)]
    place, opened = pack(rest[by_length], sequence_length)
    sequences = opened + int(full.sum(dtype=np.int64))
    numbers = np.empty(sequences, dtype=np.int32)
    numbers[np.argsort(mixed(np.arange(sequences, dtype=np.uint64), seed))] = np.arange(sequences, dtype=np.int32)

    # Pieces by document, the rests first, then the full sequences; a stable sort then puts them by sequence.
    rests = np.flatnonzero(rest).astype(np.int32)
    sequence = np.empty(len(rows), dtype=np.int32)
    sequence[by_length] = numbers[place]
    sequence = np.concatenate((sequence[rests], numbers[opened:]))
    owner = np.concatenate((rests, np.repeat(np.arange(len(rows), dtype=np.int32), full)))
    within = np.arange(sequences - opened, dtype=np.int32) - np.repeat(np.cumsum(full, dtype=np.int32) - full, full)
    begin = np.concatenate((full[rests], within)) * np.int32(sequence_length)
    tokens = np.concatenate((rest[rests], np.full(sequences - opened, sequence_length, dtype=np.int32)))
    order = np.argsort(sequence, kind="stable")
    sequence, owner, begin, tokens = sequence[order], owner[order], begin[order], tokens[order]
    before = np.cumsum(tokens, dtype=np.int64) - tokens
    first = np.flatnonzero(np.diff(sequence, prepend=-1))
    offset = before - np.repeat(before[first], np.diff(first, append=len(sequence)))
    start = sequence.astype(np.int64) * sequence_length + offset
    several = int(np.count_nonzero(begin == sequence_length))  # each has one second piece
    return Layout(rows[owner], begin, tokens, start, sequences, sequence_length, len(rows), several)
