"""A shard read back, with Streaming's own decoder."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from base.errors import UserError
from base.storage import local_copy


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
    from streaming.base.compression import decompress
    from streaming.base.format.mds.encodings import mds_decode
    from streaming.base.hashing import get_hash

    stored = entry["zip_data"] or entry["raw_data"]
    with local_copy(location, folder) as path:
        data = path.read_bytes()
    if len(data) != stored["bytes"]:
        raise Damaged(f"{location}: {len(data)} bytes, but the index says {stored['bytes']}")
    for algorithm, value in stored["hashes"].items():
        if get_hash(algorithm, data) != value:
            raise Damaged(f"{location}: its {algorithm} is not the one in the index")
    if entry["zip_data"]:
        data = decompress(entry["compression"], data)
    samples = int(np.frombuffer(data, np.uint32, 1)[0])
    if samples != entry["samples"]:
        raise Damaged(f"{location}: holds {samples} sequences, but the index says {entry['samples']}")
    offsets = np.frombuffer(data, np.uint32, samples + 1, 4).tolist()
    encoding = f"ndarray:uint16:{sequence_length}"
    return np.stack([mds_decode(encoding, data[begin:end]) for begin, end in pairwise(offsets)])
