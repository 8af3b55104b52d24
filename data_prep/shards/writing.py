"""One shard: its sequences cut from the layout and written with Streaming's own writer."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.shards.shuffling import cut
from data_prep.stage import remove

COLUMN = "tokens"


@dataclass(frozen=True)
class ShardTask:
    """One shard: sequences ``first`` to ``last - 1`` of a split."""

    target: Path
    layout: Path
    first: int
    last: int
    sequence_length: int
    end_of_text: int
    size_limit: int
    hashes: tuple[str, ...]
    compression: str | None


def write_shard(task: ShardTask) -> None:
    """Write one shard into ``target/``; the folder appears when it is whole."""
    from streaming import MDSWriter  # takes seconds: it imports torch and transformers

    sequences = cut(task.layout, task.first, task.last, task.sequence_length, task.end_of_text)
    aside = task.target.with_name(f".{task.target.name}.part")
    remove(aside)
    with MDSWriter(
        out=str(aside), columns={COLUMN: f"ndarray:uint16:{task.sequence_length}"}, compression=task.compression,
        hashes=list(task.hashes), size_limit=task.size_limit,
    ) as writer:  # fmt: skip
        for sequence in sequences:
            writer.write({COLUMN: sequence})
    remove(task.target)  # its shard was moved already when an earlier run was killed
    os.replace(aside, task.target)


def shard_entry(task: ShardTask) -> dict[str, Any] | None:
    """What the writer notes of a shard; None when it is not written yet."""
    try:
        (entry,) = json.loads((task.target / "index.json").read_text(encoding="utf-8"))["shards"]
    except FileNotFoundError:
        return None
    data = entry["zip_data"] or entry["raw_data"]
    return entry if (task.target / data["basename"]).exists() else None


def place_shard(task: ShardTask, number: int, folder: Path) -> dict[str, Any]:
    """Move a shard to its name in the split; returns its entry for the split's index."""
    entry = shard_entry(task)
    assert entry is not None, task.target
    data = entry["zip_data"] or entry["raw_data"]
    old = task.target / data["basename"]
    for form in (entry["raw_data"], entry["zip_data"]):
        if form:
            form["basename"] = form["basename"].replace("shard.00000.", f"shard.{number:05d}.")
    shutil.move(old, folder / data["basename"])
    return entry
