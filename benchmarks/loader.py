"""Tokens per CPU-second that the training's loader gives from the cache on this machine, with nothing training.

The loader is recipes.build's, from yamls/biomedlm.yaml: shuffled, batches of 8 sequences of 1,024, over made shards of
random ids. Counted is the CPU, user and system, of the worker and of the process that it serves, threads included, from
asking for the first batch until the worker has ended after the last: reading, handing over, and the int64 tensor that
training gets. Not counted is what comes once in a run's life: imports, and setting up the dataset. One worker, and
beside it none; the fastest of several passes counts, and all are told: on cores that idle the same pass costs more,
since threads that wait for each other are woken anew.
Bar: 4 million tokens per CPU-second with one worker. One GPU asks for 0.03.

    python -m benchmarks loader
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LENGTH, BATCH, VOCABULARY = 1024, 8, 28_896
BAR = 4.0  # million tokens per CPU-second


def measure(arguments: list[str]) -> dict[str, Any]:
    """Million tokens per CPU-second, with one worker and with none."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks loader", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=32_768)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="loader-") as folder:
        _write(Path(folder), given.sequences)
        # A process for each pass: the CPU time of a worker is known once it has ended.
        rates = {
            workers: [round(_rate(folder, given.sequences, workers) / 1e6, 2) for _ in range(given.rounds)]
            for workers in (1, 0)
        }
    return {
        "sequences": given.sequences,
        "one_worker_mtok_per_cpu_second": max(rates[1]),
        "no_worker_mtok_per_cpu_second": max(rates[0]),
        "passes": {"one_worker": rates[1], "no_worker": rates[0]},
        "bar": BAR,
        "bar_met": max(rates[1]) >= BAR,
    }


def _write(folder: Path, sequences: int) -> None:
    import numpy as np
    from streaming import MDSWriter

    random = np.random.default_rng(0)
    with MDSWriter(
        out=str(folder / "train"), columns={"tokens": f"ndarray:uint16:{LENGTH}"}, size_limit=2**26
    ) as writer:
        for _ in range(sequences):
            writer.write({"tokens": random.integers(VOCABULARY, size=LENGTH, dtype=np.uint16)})


def _rate(folder: str, sequences: int, workers: int) -> float:
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.loader", folder, str(sequences), str(workers)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    return sequences * LENGTH / float(child.stdout.splitlines()[-1])


def _one_pass(folder: str, sequences: int, workers: int) -> float:
    from base.configuration import load_configuration
    from recipes import build
    from recipes.schema import Training

    overrides = [
        "train_loader.dataset.remote=null", f"train_loader.dataset.local={folder}",
        f"train_loader.num_workers={workers}", "train_loader.persistent_workers=false",
        f"global_train_batch_size={BATCH}", f"device_train_microbatch_size={BATCH}", "save_folder=null",
        "autoresume=false", "train_loader.dataset.num_canonical_nodes=1",
    ]  # fmt: skip
    data = build.build_train_data(load_configuration("yamls/biomedlm.yaml", overrides, Training), VOCABULARY)
    before = _cpu_seconds()
    batches = 0
    for batch in data.dataloader:  # type: ignore[union-attr]
        data.batch_transforms(batch)
        batches += 1
    assert batches * BATCH == sequences
    return _cpu_seconds() - before


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    print(_one_pass(sys.argv[1], *map(int, sys.argv[2:])))
