"""Shards brought onto this node's disk, each with the size and the hashes that its index tells."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from streaming import Stream
from streaming.base.format import FileInfo, Reader
from streaming.base.hashing import get_hash
from streaming.base.world import World

from base import storage
from base.errors import UserError

INDEX = "index.json"
FETCHED_AGAIN = 2  # times, when it is not what the index says: it may have been altered on its way


class WholeShards(Stream):
    """A Stream whose shards are fetched as everything else of ours is, and are whole when they are in the cache.

    Streaming takes a file that was altered on its way for good; or with ``validate_hash``, which must name a hash that
    the index has, it ends at the first. It repeats what failed, with S3 clients and a policy of its own.
    Source of what is replaced: mosaicml-streaming 0.13.0, ``Stream._download_file``.
    """

    def get_shards(self, world: World, allow_unsafe_types: bool) -> list[Reader]:
        shards = super().get_shards(world, allow_unsafe_types)
        files = [file for shard in shards for pair in shard.file_pairs for file in pair if file is not None]
        self._told: dict[str, FileInfo] = {file.basename: file for file in files}
        return shards

    def _download_file(self, from_basename: str, to_basename: str | None = None) -> str:
        local = Path(self.local, self.split, to_basename or from_basename)
        file = self._told[from_basename]
        if self.remote is None:
            raise UserError(f"{local}: no such file, and the stream has no `remote` to fetch it from")
        fetch_whole(storage.join(self.remote, self.split, from_basename), local, file.bytes, file.hashes)
        return str(local)


def fetch_indexes(streams: Iterable[Stream]) -> None:
    """Have the indexes in the cache, so that no rank waits for another's download when the dataset is made."""
    for stream in streams:
        index = Path(stream.local, stream.split, INDEX)
        if stream.remote is not None and not index.exists():
            storage.download(storage.join(stream.remote, stream.split, INDEX), index)


def fetch_whole(location: str, path: Path, size: int, hashes: Mapping[str, str]) -> None:
    """Fetch a file that is whole as soon as it is there under its name.

    Args:
        location: where it lies, local or s3://.
        path: where it shall be.
        size: bytes it must have.
        hashes: name of the algorithm → hex digest, each of which it must have.

    Raises:
        UserError: it is not what was asked for, however often it is fetched; or as those of ``base.storage``.
    """
    aside = path.with_name(f"{path.name}.fetched")
    try:
        for _ in range(1 + FETCHED_AGAIN):
            storage.download(location, aside)
            if is_whole(aside, size, hashes):
                os.replace(aside, path)
                return
    finally:
        aside.unlink(missing_ok=True)
    raise UserError(
        f"{location}: is not what {INDEX} says of it, fetched {1 + FETCHED_AGAIN} times; send it there anew: "
        "`python -m data_prep … verify` looks at all of them"
    )


def is_whole(path: Path, size: int, hashes: Mapping[str, str]) -> bool:
    """Whether the file is there with that size and all these hashes."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    data = path.read_bytes()
    return all(get_hash(name, data) == value for name, value in hashes.items())
