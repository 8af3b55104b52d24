"""What a rank measures by itself: its GPU, its matrix products, its node's disk, its way to the object store."""

import secrets
import subprocess
import time
from collections.abc import Callable

import torch

from base import storage
from base.errors import UserError
from recipes.node_check.gathering import Gathering
from recipes.node_check.judge import Facts
from recipes.preflight import preflight
from recipes.schema import Training
from recipes.this_machine import troubles

GIB = 2**30
GPU_SIZE, CPU_SIZE = 8192, 512  # rows of the square matrices: 1.1 TFLOP and 0.27 GFLOP a product
GPU_SECONDS, CPU_SECONDS = 2.0, 0.3
PROBE_BYTES = 2**20


def choose_device(config: Training, local_rank: int) -> torch.device | None:
    """This rank's GPU; the CPU where there is no GPU and the configuration can do without; else None."""
    if local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    needs_gpu = config.precision != "fp32" or config.model.init_device == "meta"
    return torch.device("cpu") if torch.cuda.device_count() == 0 and not needs_gpu else None


def measure(config: Training, device: torch.device | None, gathering: Gathering, spare_gb: float, facts: Facts) -> None:
    """Fill in ``facts``. Whatever goes wrong becomes one of its troubles, for the others must learn of it.

    Args:
        config: the training configuration.
        device: this rank's; None when it has none that could train.
        gathering: which rank this is; the first of a node looks at disk and store, too.
        spare_gb: what must stay free on the disk beside what the run will put there.
        facts: of this rank.
    """
    local_rank = gathering.local_rank
    looks: list[Callable[[], None]] = []
    if device is None:
        facts.troubles.append(
            f"torch sees {torch.cuda.device_count()} GPUs there, and this is rank {local_rank} of the node's; look at "
            "`nvidia-smi`, at the driver and CUDA_VISIBLE_DEVICES, or start fewer ranks a node (for the CPU: "
            "precision=fp32 model.init_device=cpu)"
        )
    elif device.type == "cpu":
        looks.append(lambda: _cpu(facts))
    else:
        looks.append(lambda: _gpu(device, facts))
    if local_rank == 0:
        looks.append(lambda: _node(config, gathering, spare_gb, facts))
    for look in looks:
        try:
            look()
        except (UserError, RuntimeError, OSError) as error:  # a broken GPU raises RuntimeError
            facts.troubles.append(str(error).strip() or type(error).__name__)


def _cpu(facts: Facts) -> None:
    facts.device = "cpu"
    multiply = _products(torch.device("cpu"), CPU_SIZE, torch.float32)
    multiply(3)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < CPU_SECONDS:
        multiply(10)
        done += 10
    facts.matmul_tflops = 2 * CPU_SIZE**3 * done / (time.perf_counter() - start) / 1e12


def _gpu(device: torch.device, facts: Facts) -> None:
    """Rate and clock under load. Written after torch's and nvidia-smi's documentation; see docs/operations.md."""
    facts.device = torch.cuda.get_device_name(device)
    free, total = torch.cuda.mem_get_info(device)
    facts.memory_gib = total / GIB
    if free < 0.9 * total:
        facts.troubles.append(
            f"{(total - free) / GIB:.1f} of its GPU's {total / GIB:.1f} GiB are taken; `nvidia-smi` there says by whom"
        )
    multiply = _products(device, GPU_SIZE, torch.bfloat16)
    multiply(10)
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    multiply(10)
    torch.cuda.synchronize(device)
    number = max(10, round(GPU_SECONDS * 10 / (time.perf_counter() - start)))
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    multiply(number)
    end.record()
    _ask_the_driver(device, facts)  # while the products run
    end.synchronize()
    facts.matmul_tflops = 2 * GPU_SIZE**3 * number / (begin.elapsed_time(end) / 1e3) / 1e12


def _products(device: torch.device, size: int, dtype: torch.dtype) -> Callable[[int], None]:
    """A function that computes so many products of two random [size, size] matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)

    def multiply(number: int) -> None:
        for _ in range(number):
            torch.mm(a, b, out=out)

    return multiply


def _ask_the_driver(device: torch.device, facts: Facts) -> None:
    uuid = torch.cuda.get_device_properties(device).uuid
    asked = "clocks.sm,ecc.errors.uncorrected.volatile.total"
    command = ["nvidia-smi", f"--id=GPU-{uuid}", f"--query-gpu={asked}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except FileNotFoundError:
        return  # a container without it; the table says that the clock is not known
    except subprocess.SubprocessError as error:
        facts.troubles.append(f"nvidia-smi does not answer for its GPU: {error}; the driver may hang: restart the node")
        return
    read_driver(answer, facts)


def read_driver(answer: str, facts: Facts) -> None:
    """nvidia-smi's line, such as ``1980, 0``; what a GPU does not have is ``[N/A]``."""
    clock, errors = (part.strip() for part in answer.strip().split(","))
    facts.clock_mhz = float(clock) if clock.isdigit() else None
    if errors.isdigit() and int(errors) > 0:
        facts.troubles.append(
            f"its GPU has {errors} uncorrected memory errors; reset it or leave the node out "
            "(Slurm: sbatch --exclude={hostname})"
        )


def _node(config: Training, gathering: Gathering, spare_gb: float, facts: Facts) -> None:
    """Data, tokenizer and checkpoints as they are seen from here, then the disk, then writing to the store."""
    found = preflight(config, gathering.world_size, probe_writing=False, nodes=gathering.nodes)
    facts.troubles += found.faults + found.missing
    facts.troubles += troubles(config, found, gathering.nodes, resumes=True, spare_bytes=spare_gb * 1e9)
    facts.free_gb = min(storage.free_bytes(folder) for folder in (config.run_folder, *found.shard_bytes)) / 1e9
    if config.save_folder is not None and not found.missing:
        _write_and_read(config.save_folder, facts)


def _write_and_read(folder: str, facts: Facts) -> None:
    location = storage.join(folder, f".node-check-{facts.hostname}-{secrets.token_hex(8)}")
    data = secrets.token_bytes(PROBE_BYTES)
    start = time.perf_counter()
    storage.write_bytes(location, data)
    same = storage.read_bytes(location) == data
    storage.delete(location)
    facts.store_seconds = time.perf_counter() - start
    if not same:
        facts.troubles.append(f"{location}: what was read is not what was written; take another store or path to it")
