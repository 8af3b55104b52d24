"""A shard in Streaming's format MDS, of sequences of token ids: the very bytes that Streaming's ``MDSWriter`` writes.

Streaming's writer is what this must equal, and tests compare the two. It is not used because importing it costs every
worker seconds and half a gigabyte (``streaming_codecs.py``), and because it encodes the samples one by one.

============================  ====================================================
uint32                        samples
uint32[samples + 1]           where each begins in the file, and where the last ends
JSON                          the shard's configuration (:func:`configuration`)
uint16[samples, length]       the ids; a column of one size has no header
============================  ====================================================

All in the byte order of the machine, as Streaming has it. Source: mosaicml-streaming 0.13.0, ``MDSWriter``.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.shards import streaming_codecs as streaming

COLUMN = "tokens"


def encoding(sequence_length: int) -> str:
    """Of the column, as Streaming names it."""
    return f"ndarray:uint16:{sequence_length}"


def configuration(
    sequence_length: int, size_limit: int, hashes: Sequence[str], compression: str | None
) -> dict[str, Any]:
    """What a shard and its entry in the index say of how it was written."""
    return {
        "version": 2,
        "format": "mds",
        "compression": compression,
        "hashes": list(hashes),
        "size_limit": size_limit,
        "column_names": [COLUMN],
        "column_encodings": [encoding(sequence_length)],
        "column_sizes": [2 * sequence_length],
    }


def encode_shard(
    sequences: NDArray[np.uint16], number: int, size_limit: int, hashes: Sequence[str], compression: str | None
) -> tuple[bytes, dict[str, Any]]:
    """The file of a shard, and its entry in the index of its split.

    Args:
        sequences: uint16[samples, length], so many that the shard is not larger than ``size_limit``.
        number: of the shard in its split, which names its file.
        size_limit: bytes, before compression; only noted.
        hashes: names of hash functions, sorted.
        compression: ``zstd`` (at Streaming's own level), or None.
    """
    samples, length = sequences.shape
    described = configuration(length, size_limit, hashes, compression)
    text = json.dumps(described, sort_keys=True).encode()
    begin = 4 + 4 * (samples + 1) + len(text)
    offsets = begin + 2 * length * np.arange(samples + 1, dtype=np.int64)
    assert offsets[-1] <= size_limit, (samples, length, size_limit)
    raw = b"".join((np.uint32(samples).tobytes(), offsets.astype(np.uint32).tobytes(), text, sequences.data))
    basename = f"shard.{number:05d}.mds"
    entry = described | {"samples": samples, "raw_data": _file(raw, basename, hashes), "zip_data": None}
    if compression is None:
        return raw, entry
    zipped = streaming.compression().compress(compression, raw)
    extension = streaming.compression().get_compression_extension(compression)
    return zipped, entry | {"zip_data": _file(zipped, f"{basename}.{extension}", hashes)}


def stored(entry: dict[str, Any]) -> dict[str, Any]:
    """Of an entry, what it says of the file as it is stored: ``basename``, ``bytes``, ``hashes``."""
    return entry["zip_data"] or entry["raw_data"]


def _file(data: bytes, basename: str, hashes: Sequence[str]) -> dict[str, Any]:
    digests = {name: streaming.hashing().get_hash(name, data) for name in hashes}
    return {"basename": basename, "bytes": len(data), "hashes": digests}
