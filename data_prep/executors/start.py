"""The executor that a configuration asks for."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from data_prep.executors.executor import Executor
from data_prep.executors.local import LocalProcesses
from data_prep.executors.places import Places
from data_prep.executors.serve import serve
from data_prep.executors.shared_folder import SharedFolder
from data_prep.schema import Executor as Settings

FOLDER = "ranks"  # in the work folder


def slurm_job() -> str | None:
    """The name of the Slurm array, or of the step of a Slurm job, that the ranks belong to."""
    name = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    return name and f"{name}.{os.environ.get('SLURM_STEP_ID', '')}"


@contextmanager
def started(settings: Settings, digest: str, work: Path, written: list[Path], read: list[Path]) -> Iterator[Executor]:
    """The executor, for as long as the block lasts.

    Args:
        digest: of the configuration, without its executor.
        work: the work folder.
        written: the folders that tasks write in, ``work`` among them.
        read: local files and folders that tasks read besides.

    Raises:
        UserError: there is no such cluster, or its machines do not see the same files.
    """
    if settings.name == "ray":
        from data_prep.executors.ray_cluster import RayCluster

        with closing(RayCluster(settings.address, settings.workers, Places.of_new_run(written, read))) as cluster:
            yield cluster
    elif settings.world > 1:
        ranks = SharedFolder(
            work / FOLDER, settings.workers, settings.stale_seconds, digest, slurm_job(),
            Places.of_new_run(written, read),
        )  # fmt: skip
        try:
            yield ranks
        except BaseException:
            ranks.close()
            raise
        ranks.close(well=True)
    else:
        with closing(LocalProcesses(settings.workers)) as processes:
            yield processes


def serve_rank(settings: Settings, digest: str, work: Path) -> bool:
    """Be a rank above 0 until the run has ended; whether it has ended well. Raises UserError as :func:`serve` does."""
    return serve(
        work / FOLDER, settings.rank, settings.workers, digest, slurm_job(),
        settings.stale_seconds, settings.patience_seconds,
    )  # fmt: skip
