"""The packed sequences of a training run, streamed from the shards of data_prep."""

from time import time_ns
from typing import Any

from streaming import StreamingDataset
from streaming.base.dataset import _ShardState


class PackedSequences(StreamingDataset):
    """A StreamingDataset that takes the lock of its cache once a shard.

    Streaming's own thread prepares the shard of every sample that will be wanted, under a file lock, the shard being
    there or not: ten system calls a sample, at each of which the worker's threads hand the interpreter to each other.
    That was two thirds of what loading cost. Samples, their order, eviction and resumption are Streaming's.
    Source of what is left out: mosaicml-streaming 0.13.0, ``StreamingDataset.prepare_shard``.
    """

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self._prepared: set[int] = set()  # shards that this process has prepared or seen another prepare

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Have a shard in the cache. ``blocking`` is asked for where a file was missed: that is looked into."""
        if not blocking and shard_id in self._prepared and self._shard_states[shard_id] == _ShardState.LOCAL:
            self._shard_access_times[shard_id] = time_ns()  # as when a sample is read: without the lock
            return
        super().prepare_shard(shard_id, blocking)
        self._prepared.add(shard_id)
