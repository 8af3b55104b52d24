"""A shard read back, with Streaming's own decoder."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from base.errors import UserError
from base.storage import local_copy
from data_prep.shards import streaming_codecs as streaming
from data_prep.shards.mds import encoding, stored


class Damaged(UserError):
    """A shard is not what its index says."""


def read_shard(location: str, entry: dict[str, Any], sequence_length: int, folder: Path) -> NDArray[np.uint16]:
    """All sequences of a shard: uint16[samples, sequence_length].

    Args:
        entry: what the split's ``index.json`` says of it: its bytes and hashes are checked.
        folder: for a copy, when the shard lies in a bucket.

    Raises:
        Damaged: bytes, hashes or the number of sequences differ.
    """
    file = stored(entry)
    with local_copy(location, folder) as path:
        data = path.read_bytes()
    if len(data) != file["bytes"]:
        raise Damaged(f"{location}: {len(data)} bytes, but the index says {file['bytes']}")
    for algorithm, value in file["hashes"].items():
        if streaming.hashing().get_hash(algorithm, data) != value:
            raise Damaged(f"{location}: its {algorithm} is not the one in the index")
    if entry["zip_data"]:
        data = streaming.compression().decompress(entry["compression"], data)
    samples = int(np.frombuffer(data, np.uint32, 1)[0])
    if samples != entry["samples"]:
        raise Damaged(f"{location}: holds {samples} sequences, but the index says {entry['samples']}")
    offsets = np.frombuffer(data, np.uint32, samples + 1, 4).tolist()
    decode, form = streaming.encodings().mds_decode, encoding(sequence_length)
    sequences = np.empty((samples, sequence_length), dtype=np.uint16)
    for number, (begin, end) in enumerate(pairwise(offsets)):
        sequences[number] = decode(form, data[begin:end])
    return sequences
