"""What a run needs of each machine that it runs on: folders, disks, shared memory. Imports nothing heavy."""

import os
from collections import defaultdict
from pathlib import Path

import psutil

from base import storage
from recipes.findings import Findings
from recipes.schema import Training

SHARED_MEMORY = Path("/dev/shm")
# Of the container, under version 2 of control groups and under 1; a machine's own is "max", or a huge number.
MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
STATE_BYTES = 12  # a parameter in a checkpoint: fp32, with two moments


def troubles(config: Training, found: Findings, nodes: int, resumes: bool, spare_bytes: float = 0.0) -> list[str]:
    """What this machine lacks, each with what to do; empty when it is fit.

    Args:
        config: the training configuration.
        found: the shards and the model.
        nodes: among how many machines a checkpoint is shared out.
        resumes: whether a whole checkpoint is to be fetched as well, as after a fault.
        spare_bytes: what must stay free on each disk beside what the run needs.
    """
    needs: dict[str, float] = {config.run_folder: 0.0, **found.shard_bytes}
    checkpoint = STATE_BYTES * found.model.n_parameters if found.model is not None else 0
    if config.save_folder is not None:
        needs[os.path.join(config.run_folder, "staging")] = checkpoint / nodes
    if resumes:
        needs[os.path.join(config.run_folder, "resume")] = checkpoint
    unfit: dict[Path, str] = {}
    disks: dict[int, list[str]] = defaultdict(list)
    for folder in needs:
        there = storage.nearest_existing(folder)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            unfit.setdefault(there, f"{folder}: {there} is no folder that can be written to; take another")
        else:
            disks[there.stat().st_dev].append(folder)
    told = list(unfit.values())
    for folders in disks.values():
        filled = [folder for folder in folders if needs[folder] > 0]
        need = sum(max(0, needs[folder] - sum(storage.list_files(folder).values())) for folder in filled)
        free = storage.free_bytes(folders[0])
        if free < need + spare_bytes:
            also = f", and {spare_bytes / 1e9:g} GB must stay free" if spare_bytes else ""
            told.append(
                f"{' and '.join(filled or folders)}: {free / 1e9:.3f} GB are free there, and the run will put "
                f"{need / 1e9:.3f} GB more{also}; make room, take another disk (BIOMEDLM_SCRATCH in "
                "yamls/biomedlm.yaml), or set train_loader.dataset.cache_limit"
            )
    return told + _shared_memory(found) + (_memory(checkpoint / nodes) if config.save_folder is not None else [])


def _memory(copy: float) -> list[str]:
    """A save copies the state into the machine's memory and writes it from there, while training goes on."""
    limits = [limit.read_text().strip() for limit in MEMORY_LIMITS if limit.exists()]
    free = min([psutil.virtual_memory().available, *(int(limit) for limit in limits if limit.isdecimal())])
    if copy <= free:
        return []
    return [
        f"memory: {free / 1e9:.3f} GB are available, and each save copies {copy / 1e9:.3f} GB of the state there; "
        "take machines with more, or give the container more"
    ]


def _shared_memory(found: Findings) -> list[str]:
    """Streaming shares the order of an epoch, 8 bytes a sample, among the processes of a machine."""
    need, free = 8 * (found.samples or 0), storage.free_bytes(SHARED_MEMORY)
    if need <= free:
        return []
    return [
        f"{SHARED_MEMORY}: {free / 1e6:.0f} MB are free there, and the order of {found.samples:,} samples takes "
        f"{need / 1e6:.0f} MB; give a container more (docker --shm-size, an emptyDir of medium Memory)"
    ]
