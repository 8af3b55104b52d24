"""Which document goes where: the split, the order, and the cut into sequences of one length.

Packing ``eos`` (ours): each document, then ``<|endoftext|>``, end to end. ``concat`` (as BioMedLM's loader did): end to
end with nothing between. Both cut the stream every ``max_seq_len`` tokens and drop the tail, which is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from base.errors import UserError
from data_prep.documents import document_hash, is_validation
from data_prep.shards.tokenise import TOKEN

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Documents:
    """All documents in the order of their files: where each lies, and how many tokens it takes with its separator."""

    part: NDArray[np.int32]
    begin: NDArray[np.int64]  # its first token among those of its part
    row: NDArray[np.int64]  # among all documents
    length: NDArray[np.int64]  # without the separator

    def at(self, rows: NDArray[np.int64]) -> "Documents":
        """Some of them, in the given order."""
        return Documents(self.part[rows], self.begin[rows], self.row[rows], self.length[rows])


@dataclass(frozen=True)
class Layout:
    """One split: its documents in their final order.

    Attributes:
        starts: where in the stream each document starts, and, last, where the stream ends.
    """

    documents: Documents
    starts: NDArray[np.int64]
    sequence_length: int

    @property
    def sequences(self) -> int:
        return int(self.starts[-1]) // self.sequence_length

    @property
    def tail(self) -> int:
        """Tokens behind the last whole sequence."""
        return int(self.starts[-1]) % self.sequence_length

    def save(self, folder: Path) -> None:
        """Write it for the workers."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in (("part", self.documents.part), ("begin", self.documents.begin), ("starts", self.starts)):
            np.save(folder / f"{name}.npy", array)


def split_documents(
    identifiers: Sequence[str], length: NDArray[np.int64], val_fraction: float, least: int
) -> tuple[NDArray[np.bool_], int]:
    """Which documents are for validation: those whose id hashes low, whatever else the corpus holds.

    Where these have fewer than ``least`` tokens, documents with the next higher hashes are added (their number is the
    second value): a corpus so small gets a validation set, and loses the promise that it grows with it.

    Raises:
        UserError: the corpus cannot fill one sequence of each split.
    """
    hashes = np.array([document_hash(name, "validation") for name in identifiers], dtype=np.uint64)
    order = np.argsort(hashes, kind="stable")
    chosen = sum(is_validation(name, val_fraction) for name in identifiers)
    running = np.cumsum(length[order])
    needed = max(chosen, int(np.searchsorted(running, least)) + 1)
    if needed >= len(order) or int(running[-1] - running[needed - 1]) < least:
        raise UserError(
            f"the documents hold {int(running[-1])} tokens, too few for one training and one validation sequence of "
            f"{least} tokens each; give more files, or a smaller shards.max_seq_len"
        )
    validation = np.zeros(len(order), dtype=bool)
    validation[order[:needed]] = True
    return validation, needed - chosen


def lay_out(
    documents: Documents, identifiers: Sequence[str], separators: int, seed: int, sequence_length: int
) -> Layout:
    """Shuffle by a hash of seed and id: one global order that does not depend on files, workers or other documents."""
    keys = np.array([document_hash(name, f"shuffle-{seed}") for name in identifiers], dtype=np.uint64)
    ordered = documents.at(np.argsort(keys, kind="stable"))
    starts = np.concatenate(([0], np.cumsum(ordered.length + separators)))
    return Layout(ordered, starts, sequence_length)


def cut(
    folder: Path, parts: Sequence[Path], first: int, last: int, sequence_length: int, separator: Sequence[int]
) -> NDArray[np.uint16]:
    """Sequences ``first`` to ``last - 1`` of the layout saved in ``folder``: uint16[last - first, sequence_length].

    Args:
        parts: the files of ids, as the layout numbers them.
    """
    part, begin, starts = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("part", "begin", "starts"))
    ids = [np.load(path, mmap_mode="r") for path in parts]
    start, end = first * sequence_length, last * sequence_length
    stream = np.empty(end - start, dtype=TOKEN)
    document = int(np.searchsorted(starts, start, side="right")) - 1
    filled = 0
    while filled < len(stream):
        inside = start + filled - int(starts[document])  # tokens of this document that lie before
        length = int(starts[document + 1] - starts[document]) - len(separator)
        source = ids[part[document]][int(begin[document]) + inside : int(begin[document]) + length]
        piece = np.concatenate((source, separator[max(0, inside - length) :])).astype(TOKEN)[: len(stream) - filled]
        stream[filled : filled + len(piece)] = piece
        filled += len(piece)
        document += 1
    return stream.reshape(-1, sequence_length)
