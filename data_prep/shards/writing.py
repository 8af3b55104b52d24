"""One shard: its sequences cut from the layout, written aside and, when all are there, moved to where they belong."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from base.storage import write_bytes
from data_prep.shards.mds import encode_shard, stored
from data_prep.shards.shuffling import cut


@dataclass(frozen=True)
class ShardTask:
    """One shard: sequences ``first`` to ``last - 1`` of a split, whose layout lies in ``folder``."""

    folder: Path
    number: int
    first: int
    last: int
    sequence_length: int
    end_of_text: int
    size_limit: int
    hashes: tuple[str, ...]
    compression: str | None


def write_shard(task: ShardTask) -> None:
    """Write the file of one shard and, last, its entry in the index."""
    sequences = cut(task.folder, task.first, task.last, task.sequence_length, task.end_of_text)
    data, entry = encode_shard(sequences, task.number, task.size_limit, task.hashes, task.compression)
    write_bytes(str(task.folder / stored(entry)["basename"]), data)
    write_bytes(str(_entry(task)), json.dumps(entry).encode())


def shard_entry(task: ShardTask) -> dict[str, Any] | None:
    """Its entry in the index; None when the shard is not written yet, or was moved already."""
    try:
        entry: dict[str, Any] = json.loads(_entry(task).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return entry if (task.folder / stored(entry)["basename"]).exists() else None


def place_shard(task: ShardTask, folder: Path) -> dict[str, Any]:
    """Move a shard into the folder of its split; returns its entry in the index."""
    entry = shard_entry(task)
    assert entry is not None, task
    basename = stored(entry)["basename"]
    shutil.move(task.folder / basename, folder / basename)
    return entry


def _entry(task: ShardTask) -> Path:
    return task.folder / f"shard.{task.number:05d}.json"
