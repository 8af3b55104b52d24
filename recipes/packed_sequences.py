"""The packed sequences of a training run, streamed from the shards of data_prep."""

from collections.abc import Iterator
from time import time_ns
from typing import Any

from streaming import StreamingDataset
from streaming.base.dataset import _ShardState

from base import storage
from base.errors import StoreTrouble, UserError
from recipes.shard_ids import wrong_id


class _FromAWorker(UserError):
    """Torch brings an exception's class and, as its message, the text of its traceback: its end is what was told."""

    def __init__(self, message: str):
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class WrongId(_FromAWorker):
    """An id that the model has no row for."""


class NoShard(_FromAWorker):
    """A shard that cannot be had, or is not what its index says."""


class NoShardForNow(_FromAWorker, StoreTrouble):
    """A shard that cannot be had since the store fails."""


class PackedSequences(StreamingDataset):
    """A StreamingDataset whose ids are all known to the model, which takes the lock of its cache once a shard, and
    which tells when it cannot have a shard.

    Streaming's own thread prepares the shard of every sample that will be wanted, under a file lock, the shard being
    there or not: ten system calls a sample, at each of which the worker's threads hand the interpreter to each other.
    That was two thirds of what loading cost. Samples, their order, eviction and resumption are Streaming's.
    Source of what is left out: mosaicml-streaming 0.13.0, ``StreamingDataset.prepare_shard``.

    When that thread cannot have a shard, Streaming ends the epoch without a word, and whoever waits for that shard on
    other ranks waits without end. Here the shard goes back to those that nobody has, and the error is told to whoever
    iterates: NoShard or NoShardForNow.

    Args:
        vocab_size: ids must be smaller.
        settings: StreamingDataset's.
    """

    def __init__(self, vocab_size: int, **settings: Any):
        super().__init__(**settings)
        self.vocab_size = vocab_size
        self._prepared: set[int] = set()  # shards that this process has prepared or seen another prepare
        self._fault: UserError | None = None

    def prepare_shard(self, shard_id: int, blocking: bool = True) -> None:
        """Have a shard in the cache. ``blocking`` is asked for where a file was missed: that is looked into."""
        if not blocking and shard_id in self._prepared and self._shard_states[shard_id] == _ShardState.LOCAL:
            self._shard_access_times[shard_id] = time_ns()  # as when a sample is read: without the lock
            return
        try:
            super().prepare_shard(shard_id, blocking)
        except UserError as error:
            self._shard_states[shard_id] = _ShardState.REMOTE
            self._fault = (NoShardForNow if isinstance(error, StoreTrouble) else NoShard)(str(error))
            self._end_threads()
            if blocking:
                raise self._fault from error
            return
        self._prepared.add(shard_id)

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        if self._fault is not None:
            raise self._fault

    def _end_threads(self) -> None:
        """As Streaming does when a sample cannot be had."""
        if hasattr(self, "_event"):
            self._event.set()

    def get_item(self, sample_id: int, retry: int = 7) -> Any:
        """A sample. Raises WrongId, with the shard that it lies in, before a wrong id gets to an embedding."""
        try:
            sample = super().get_item(sample_id, retry)
        except RuntimeError:  # its threads have ended
            if self._fault is None:
                raise
            raise self._fault from None
        largest = int(sample["tokens"].max())
        if largest >= self.vocab_size:
            self._end_threads()
            shard_id, sequence = self.spanner[sample_id]
            stream, shard = self.streams[self.stream_per_shard[shard_id]], self.shards[shard_id]
            place = storage.join(stream.remote or stream.local, stream.split, shard.raw_data.basename)
            raise WrongId(wrong_id(place, sequence, largest, self.vocab_size))
        return sample
