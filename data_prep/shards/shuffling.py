"""The shuffle of the tokens themselves, in two passes that read and write files from begin to end.

A shard holds documents of every file of ids, a few of each. To pick them one by one would be a read of some hundred
bytes at a random place for each document, on the shared disk of a cluster millions of them. So the first pass
(:func:`gather`, a task for each file of ids) copies the pieces of one file into the order in which the stream has
them; the second (:func:`cut`, in the task of a shard) then finds all that a shard needs of that file in one run.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from base.storage import write_aside
from data_prep.shards.packing import Layout
from data_prep.shards.tokenise import TOKEN

COPIED = 4 << 20  # tokens at a time


def save_layout(layout: Layout, folder: Path, length: NDArray[np.int32], documents: Sequence[int]) -> None:
    """Write for :func:`gather` and :func:`cut` where the tokens of each piece come from and go to.

    Args:
        length: tokens of each document, without separator, in the order of the files of ids.
        documents: how many of them each of these files holds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ends = np.concatenate(([0], np.cumsum(length, dtype=np.int64)))  # documents lie end to end in these files
    first = np.cumsum([0, *documents])
    part = (np.searchsorted(first, layout.document, side="right") - 1).astype(np.int32)
    order = np.argsort(part, kind="stable")
    tokens = np.minimum(layout.tokens, length[layout.document] - layout.begin)
    begin = ends[layout.document] + layout.begin - ends[first[part]]
    np.save(folder / "gather_begin.npy", begin[order])
    np.save(folder / "gather_tokens.npy", tokens[order])
    bounds = np.concatenate(([0], np.cumsum(np.bincount(part, minlength=len(documents)))))
    np.save(folder / "gather_bounds.npy", bounds)
    gathered = np.concatenate(([0], np.cumsum(tokens[order], dtype=np.int64)))
    np.save(folder / "parts.npy", gathered[bounds])
    source = np.empty_like(begin)
    source[order] = gathered[:-1]
    np.save(folder / "source.npy", source)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "start.npy", layout.start)


@dataclass(frozen=True)
class GatherTask:
    """One file of ids, the ``part``-th, and a split whose layout is saved in ``layout``."""

    ids: Path
    layout: Path
    part: int


def gathered_path(layout: Path, part: int) -> Path:
    """Where the gathered ids of a file lie: uint16, pieces end to end, and nothing else."""
    return layout / f"{part:05d}.gathered"


def gather(task: GatherTask) -> None:
    """First pass: copy the pieces of one file that belong to a split into the order of the stream."""
    bounds = np.load(task.layout / "gather_bounds.npy", mmap_mode="r")
    rows = slice(int(bounds[task.part]), int(bounds[task.part + 1]))
    begin, tokens = (np.load(task.layout / f"gather_{name}.npy", mmap_mode="r")[rows] for name in ("begin", "tokens"))
    begin = np.load(task.ids, mmap_mode="r").offset + begin * TOKEN().itemsize
    ends = np.cumsum(tokens, dtype=np.int64)
    # Each piece is read by itself: of a file that is mapped, all would count as this process's memory.
    with (
        open(task.ids, "rb") as ids,
        write_aside(gathered_path(task.layout, task.part)) as aside,
        open(aside, "wb") as file,
    ):
        first = before = 0
        while first < len(ends):  # some pieces at a time, or one large one
            last = max(first + 1, int(np.searchsorted(ends, before + COPIED, side="right")))
            stream = memoryview(bytearray((int(ends[last - 1]) - before) * TOKEN().itemsize))
            to = 0
            for place, size in zip(begin[first:last].tolist(), tokens[first:last].tolist(), strict=True):
                until = to + size * TOKEN().itemsize
                if os.preadv(ids.fileno(), [stream[to:until]], place) != until - to:
                    raise OSError(errno.EIO, "is cut off", str(task.ids))
                to = until
            file.write(stream)
            first, before = last, int(ends[last - 1])


def cut(folder: Path, first: int, last: int, sequence_length: int, end_of_text: int) -> NDArray[np.uint16]:
    """Second pass: sequences ``first`` to ``last - 1`` of the layout saved in ``folder``, whose ids are gathered.

    Returns:
        uint16[last - first, sequence_length]
    """
    from data_prep.shards.copying import copy_runs

    start, source, tokens = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("start", "source", "tokens"))
    parts = np.load(folder / "parts.npy")
    origin, end = first * sequence_length, last * sequence_length
    pieces = slice(max(0, int(np.searchsorted(start, origin, side="right")) - 1), int(np.searchsorted(start, end)))
    early = np.maximum(origin - start[pieces], 0)  # tokens of the first piece that lie in the sequence before
    left = start[pieces] - origin + early
    right = np.minimum(start[pieces] - origin + tokens[pieces], end - origin)
    order = np.flatnonzero(left < right)
    order = order[np.argsort(source[pieces][order], kind="stable")]
    left, right, begin = left[order], right[order], (source[pieces] + early)[order]
    length = (right - left).astype(np.int32)
    part = np.searchsorted(parts, begin, side="right") - 1
    stream = np.full(end - origin, end_of_text, dtype=TOKEN)
    for low, high in pairwise(np.flatnonzero(np.diff(part, prepend=-1, append=-1)).tolist()):
        number, base = int(part[low]), int(begin[low])
        run = int(begin[high - 1] + right[high - 1] - left[high - 1]) - base
        path, offset = gathered_path(folder, number), (base - int(parts[number])) * TOKEN().itemsize
        ids = np.fromfile(path, TOKEN, run, offset=offset)
        copy_runs(ids, begin[low:high] - base, length[low:high], stream, left[low:high])
    return stream.reshape(-1, sequence_length)
