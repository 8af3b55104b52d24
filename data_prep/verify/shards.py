"""The check of one shard: its own integrity, and that each document of ``doc_ids`` stands in it where that says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from base.errors import NotThere
from data_prep.documents import document_keys, mixed
from data_prep.shards.doc_ids import SCHEMA, read_doc_ids
from data_prep.shards.reading import Damaged, read_shard


@dataclass(frozen=True)
class ShardCheck:
    """One shard to read.

    Attributes:
        doc_ids: a local copy of the split's side file.
        first: its first sequence among those of the split.
        last: the first sequence behind it; None for the last shard, whose documents may lie in the dropped tail.
        keys: where to write the hashes of the ids of the documents that begin here.
        sample: a document is decoded when the other hash of its id (by ``sample_seed``) is at most so large.
    """

    location: str
    entry: dict[str, Any]
    doc_ids: Path
    first: int
    last: int | None
    card: dict[str, Any]
    keys: Path
    sample: int
    sample_seed: int
    folder: Path


@dataclass(frozen=True)
class ShardFound:
    """What one shard holds. ``pieces``: of the sampled documents, as (id, first token in the document, ids)."""

    faults: list[str]
    tokens: int = 0  # of the documents and pieces that begin here
    start: int = 0  # where the first of them begins, in the split's stream
    end: int = 0  # where the last of them ends
    pieces: tuple[tuple[str, int, NDArray[np.uint16]], ...] = ()


def sampled(keys: NDArray[np.uint64], sample: int, seed: int) -> NDArray[np.bool_]:
    """Which documents are decoded: the same ones in shards and documents, whoever looks."""
    return mixed(keys[:, 1], seed + 1) <= np.uint64(sample)


def check_shard(check: ShardCheck) -> ShardFound:
    """Read one shard."""
    length = check.card["max_seq_len"]
    try:
        sequences = read_shard(check.location, check.entry, length, check.folder)
    except (Damaged, NotThere) as error:
        return ShardFound([str(error)])
    try:
        tables = list(read_doc_ids(check.doc_ids, check.first, check.last))
    except (pa.ArrowException, OSError) as error:
        return ShardFound([f"{check.location}: its doc_ids cannot be read as Parquet: {error}"])
    rows = pa.concat_tables([SCHEMA.empty_table(), *tables])
    names, begin = rows["id"].to_pylist(), rows["begin"].to_numpy()
    keys = document_keys(names)
    np.save(check.keys, keys[begin == 0])
    stream = sequences.reshape(-1)
    start = (rows["sequence"].to_numpy() - check.first) * length + rows["offset"].to_numpy()
    tokens = rows["tokens"].to_numpy()
    faults = [f"{check.location}: {message}" for message in _faults(stream, start, tokens, check.card)]
    inside = start + tokens <= len(stream)
    chosen = np.flatnonzero(sampled(keys, check.sample, check.sample_seed) & inside).tolist()
    pieces = tuple((names[row], int(begin[row]), stream[start[row] :][: tokens[row]].copy()) for row in chosen)
    if not len(rows):
        return ShardFound(faults)
    origin = check.first * length
    end = origin + int(start[-1] + tokens[-1])
    return ShardFound(faults, int(tokens.sum(dtype=np.int64)), origin + int(start[0]), end, pieces)


def _faults(
    stream: NDArray[np.uint16], start: NDArray[np.int64], tokens: NDArray[np.int32], card: dict[str, Any]
) -> list[str]:
    faults = []
    if stream.size and int(stream.max()) >= card["vocab_size"]:
        faults.append(f"holds id {stream.max()}, but the vocabulary has {card['vocab_size']}")
    if (start[1:] < start[:-1] + tokens[:-1]).any() or (tokens < 1).any():
        return [*faults, "its documents overlap in doc_ids"]
    begins = start[start < len(stream)]
    ends = start[: len(begins)] + tokens[: len(begins)]
    # Before the first piece that begins here lies one of the shard before; from there on, what no piece covers is
    # padding.
    covered = np.zeros(len(stream) + 1, dtype=np.int8)
    covered[begins] += 1
    covered[ends[ends <= len(stream)]] -= 1
    padding = np.cumsum(covered[:-1], dtype=np.int8) == 0
    padding[: begins[0] if len(begins) else len(stream)] = False
    if (stream[padding] != card["eos_id"]).any():
        faults.append("holds tokens of no document of doc_ids")
    if card["packing"] == "concat":
        return faults
    # With best_fit, full sequences within a document end in none.
    separated = (card["packing"] == "eos") | (tokens[: len(begins)] < card["max_seq_len"])
    last = ends[separated & (ends <= len(stream))] - 1
    if (stream[last] != card["eos_id"]).any():
        faults.append("a document does not end where doc_ids says")
    return faults
