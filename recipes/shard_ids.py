"""The ids that lie in shards, read without Streaming: an id that the model has no row for must not reach a GPU.

There it would be a failed assertion in a kernel, which names neither the id nor the file, and on a CPU an index error.
The preflight looks at shards before training, the loader (``packed_sequences.py``) at each sequence, validation at all
of its shards once a node. The format is that of ``data_prep/shards/mds.py``; other columns may stand beside the ids.
"""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from base import storage
from base.errors import UserError

HEAD = 1 << 20  # bytes of a shard that are looked at: some 500 sequences of 1,024
LOCAL, REMOTE = 64 << 20, 8 << 20  # bytes that the preflight reads of a folder on a disk, and in a bucket
COLUMN = "tokens"


def wrong_id(shard: str, sequence: int, id: int, vocab_size: int) -> str:
    """What to tell the user of an id that is out of range."""
    return (
        f"{shard}: sequence {sequence} holds the id {id}, but with model.vocab_size {vocab_size} ids end at "
        f"{vocab_size - 1}; give the tokenizer that wrote these shards (tokenizer.name), or prepare them anew"
    )


def refuse_wrong_ids(shard: str, data: bytes, entry: dict[str, Any], vocab_size: int) -> None:
    """Raise UserError for the first id that is out of range.

    Args:
        shard: its name, for the message.
        data: the shard unpacked, or its beginning: of what is cut off nothing is said.
        entry: what its ``index.json`` says of it.
    """
    sizes: list[int | None] = entry["column_sizes"]
    place = entry["column_names"].index(COLUMN)
    length = sizes[place]
    assert length is not None, entry  # ndarray:uint16:N
    try:
        samples = int(np.frombuffer(data, np.uint32, 1)[0])
        offsets = np.frombuffer(data, np.uint32, samples + 1, 4).tolist()
        for sequence, (begin, end) in enumerate(pairwise(offsets)):
            if end > len(data):
                break
            largest = int(np.frombuffer(data, np.uint16, length // 2, _ids_at(data, begin, sizes, place)).max())
            if largest >= vocab_size:
                raise UserError(wrong_id(shard, sequence, largest, vocab_size))
    except ValueError as error:
        raise UserError(f"{shard}: not a shard of packed tokens: {error}") from error


def _ids_at(data: bytes, begin: int, sizes: list[int | None], place: int) -> int:
    """Where the ids of a row begin: after the sizes of the columns that have no fixed one, and the columns before."""
    free = [column for column, size in enumerate(sizes) if not size]
    told = dict(zip(free, np.frombuffer(data, np.uint32, len(free), begin).tolist(), strict=True))
    return begin + 4 * len(free) + sum(size or told[column] for column, size in enumerate(sizes[:place]))


def look_at_ids(folder: str, shards: list[dict[str, Any]], vocab_size: int) -> str:
    """Look for ids that are out of range, in as many shards as takes about a second; returns which these were.

    Of a shard its first ``HEAD`` bytes of sequences are read; of a packed one all, since no part of it can be unpacked.
    If that is more than ``LOCAL`` or ``REMOTE`` bytes for all shards, it is every n-th of them, the last always.

    Args:
        folder: of the split, local or s3://.
        shards: the entries of its ``index.json``, one at least.

    Raises:
        UserError: an id is out of range.
        NotThere: a shard is not there.
    """
    ways = sorted({entry["compression"] for entry in shards if entry["zip_data"]} - {"zstd"})
    if ways:
        return f"none: they are packed with {', '.join(ways)}, which is unpacked in training alone"
    readings = [_reading(folder, entry) for entry in shards]
    room = REMOTE if storage.is_remote(folder) else LOCAL
    step = math.ceil(sum(size for _, size, _ in readings) / room)
    taken = range(len(shards) - 1, -1, -step)
    whole = True
    for number in taken:
        location, size, packed = readings[number]
        stored = shards[number]["zip_data" if packed else "raw_data"]["bytes"]
        data = storage.read_bytes(location, size if size < stored else None)
        if packed:
            import zstd  # what Streaming unpacks with

            data = zstd.decompress(data)
        whole = whole and len(data) == shards[number]["raw_data"]["bytes"]
        try:
            refuse_wrong_ids(location, data, shards[number], vocab_size)
        except UserError:
            if size == stored:
                raise
            refuse_wrong_ids(location, storage.read_bytes(location), shards[number], vocab_size)  # a part is unchecked
    how = "all" if whole else "the beginning"
    if step == 1:
        return f"{how} of every shard"
    return f"{how} of {len(taken)} of {len(shards):,} shards: {Path(location).name} and then one in {step}"


def _reading(folder: str, entry: dict[str, Any]) -> tuple[str, int, bool]:
    """Where a shard can be read, how many bytes of it are enough, and whether it is packed there."""
    raw = storage.join(folder, entry["raw_data"]["basename"])
    if entry["zip_data"] and (storage.is_remote(folder) or not storage.exists(raw)):
        return storage.join(folder, entry["zip_data"]["basename"]), entry["zip_data"]["bytes"], True
    return raw, min(entry["raw_data"]["bytes"], 4 * entry["samples"] + HEAD), False  # four bytes: where a row begins
