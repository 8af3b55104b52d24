"""The state of a run at one batch, copied into host memory, so that its files are written while training goes on."""

import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dist_cp
from composer import State
from composer.utils import ParallelismType, dist, reproducibility
from torch.distributed.checkpoint.filesystem import FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult

from base import storage
from base.errors import UserError

# torch's own use of it, in a thread, where warnings cannot be caught for a while.
warnings.filterwarnings("ignore", message="TypedStorage is deprecated")

# Of a tensor, or a part of one, that a rank has written: name, offset of the part; file, where in it, bytes.
Written = tuple[str, list[int] | None, str, int, int]


class Snapshot(FileSystemWriter):
    """A writer that keeps what it is to write, and writes it when told to.

    torch's ``async_save`` would pickle what is no tensor only when it writes, as it has become by then, and holds its
    collectives beside those of training. Here all that ranks must agree on is done by :func:`take`; what is left is
    each rank's own. The files are those that Composer's save_checkpoint writes, by torch's own writer.

    Args:
        folder: local, where the files are to be.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.folder = folder
        self._plan: SavePlan | None = None  # None where this rank saves nothing: in all replicas but the first
        self._copies = _Copies()
        self._metadata: Metadata | None = None  # rank 0's

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:  # type: ignore[override]
        """Called by DCP: copy this rank's part."""
        self._plan = plan
        for item in plan.items:
            self._copies.take(item, planner.resolve_data(item))
        nothing_yet: torch.futures.Future[list[WriteResult]] = torch.futures.Future()
        nothing_yet.set_result([])
        return nothing_yet  # type: ignore[return-value]

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Called by DCP, on rank 0."""
        self._metadata = metadata

    def write(self) -> list[Written]:
        """Write this rank's file, and give its memory back. Raises UserError when the disk does not take it."""
        if self._plan is None:
            return []
        with self._disk_errors():
            results = super().write_data(self._plan, self._copies).wait()  # type: ignore[attr-defined]
        self._plan, self._copies = None, _Copies()
        return [_row(result) for result in results]

    def write_metadata(self, written: list[Written]) -> Path:
        """On rank 0, with what all ranks have written: the file by which DCP finds everything. Raises UserError."""
        assert self._metadata is not None
        with self._disk_errors():
            super().finish(self._metadata, [[_result(row) for row in written]])
        return Path(self.metadata_path)

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage.disk_error(self.folder, error) from error
        except RuntimeError as error:
            if "inline_container" not in str(error):  # torch's archive writer hides the cause
                raise
            raise UserError(f"{self.folder}: a file came out short, as on a full disk") from error


def take(state: State, folder: Path) -> Snapshot:
    """Copy the state into host memory, on all ranks together.

    Bytes: of each rank its part of the parameters and of both moments, 12 a parameter over the ranks of a replica.

    Returns:
        What writes it, to be called in any thread.
    """
    snapshot = Snapshot(folder)
    torch.cuda.empty_cache()  # as Composer: the collectives of the plan need some of the GPU's memory
    content: dict[str, Any] = {"state": state.state_dict()}
    random_states = reproducibility.get_rng_state()  # of all ranks, gathered
    if dist.get_global_rank() == 0:
        content["rng"] = random_states
    mesh, group, saves = state.device_mesh, None, True
    replicate, shard = ParallelismType.DATA_PARALLEL_REPLICATE.value, ParallelismType.DATA_PARALLEL_SHARD.value
    if mesh is not None and replicate in (mesh.mesh_dim_names or ()):
        saves, group = mesh.get_local_rank(replicate) == 0, mesh.get_group(shard)
    if saves:
        planner = dist_cp.DefaultSavePlanner(dedup_save_to_lowest_rank=True)
        dist_cp.save(content, storage_writer=snapshot, planner=planner, process_group=group)
    return snapshot


class _Copies(dist_cp.DefaultSavePlanner):
    """Gives the writer what was copied, where a planner gives it what there is now."""

    def __init__(self) -> None:
        super().__init__()
        self._by_index: dict[MetadataIndex, Any] = {}

    def take(self, item: WriteItem, data: Any) -> None:
        """A tensor anywhere, or what is already bytes of its own."""
        self._by_index[item.index] = data.detach().to("cpu", copy=True) if isinstance(data, torch.Tensor) else data

    def resolve_data(self, write_item: WriteItem) -> Any:
        return self._by_index[write_item.index]


def _row(result: WriteResult) -> Written:
    index, place = result.index, result.storage_data
    part = None if index.offset is None else list(index.offset)
    return index.fqn, part, place.relative_path, place.offset, place.length


def _result(row: Written) -> WriteResult:
    fqn, part, file, offset, length = row
    return WriteResult(MetadataIndex(fqn, part), length, _StorageInfo(file, offset, length))
