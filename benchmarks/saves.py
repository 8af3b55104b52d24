"""What saving costs: how long training waits for a checkpoint, and how long writing and uploading it takes beside it.

A real run with checkpoints in the real S3 server on this machine, at some sizes, on one rank and on two, which share
its disk and memory. From the slowest rate of the machine: the 31 GB of the 2.7B model every 30 minutes, on one node
that copies as slowly, and on 16, each of which copies its part.

    python -m benchmarks saves [--layers 4 16]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from base import storage
from base.local_s3 import local_s3
from benchmarks.chaos.small_run import configuration, send, write_data, write_yaml
from model.checkpoint import list_checkpoints
from model.config import GPTConfig
from recipes.metrics import read_metrics, series
from recipes.this_machine import STATE_BYTES

WIDTH = 768
SAVES, EVERY = 5, 2
INTERVAL = 1800.0  # seconds
BAR = 0.02  # of step time
NODES = (1, 16)


def measure(arguments: list[str]) -> dict[str, Any]:
    """By ranks and size: bytes, seconds waited and uploading; for the 2.7B model: computed, its part of 30 minutes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks saves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 16], help=f"of models {WIDTH} wide")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="saves-") as folder, local_s3(Path(folder) / "s3") as server:
        os.environ.update(server.environment)
        storage._client.cache_clear()
        data, bucket = Path(folder) / "data", server.location("saves")
        write_data(data, sequences=200)
        send(data / "mds", f"{bucket}/mds")
        runs = [_at(layers, ranks, Path(folder), data, bucket) for ranks in (1, 2) for layers in given.layers]
    rate = min(run["bytes"] / run["seconds_waited"] for run in runs)
    state = STATE_BYTES * GPTConfig().n_parameters
    waited = {nodes: state / nodes / rate for nodes in NODES}
    return {
        "runs": runs,
        "bytes_per_second": round(rate),
        "state_bytes_2_7b": state,
        "seconds_waited_2_7b_by_nodes": {nodes: round(seconds, 1) for nodes, seconds in waited.items()},
        "share_of_30_minutes_by_nodes": {nodes: round(seconds / INTERVAL, 4) for nodes, seconds in waited.items()},
        "bytes_per_second_for_the_bar_on_one_node": round(state / INTERVAL / BAR),
        "bar": BAR,
        "bar_met_by_nodes": {nodes: seconds / INTERVAL <= BAR for nodes, seconds in waited.items()},
    }


def _at(layers: int, ranks: int, folder: Path, data: Path, bucket: str) -> dict[str, Any]:
    name = f"{layers}-layers-{ranks}-ranks"
    content = configuration(name, folder / name, data, bucket, batches=SAVES * EVERY, save_interval=EVERY)
    content["model"] = {"name": "gpt", "d_model": WIDTH, "n_heads": 12, "n_layers": layers}
    content["scheduler"]["t_warmup"] = "1ba"
    content["callbacks"], content["eval_loader"] = {}, None
    content["save_num_checkpoints_to_keep"] = 1
    del content["save_keep_every"]
    yaml = write_yaml(folder / name, content)
    subprocess.run(
        [sys.executable, "-m", "composer.cli.launcher", "-n", str(ranks), "train.py", str(yaml)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, stdout=sys.stderr, check=True,
    )  # fmt: skip
    metrics = read_metrics(folder / name / "run" / "metrics.jsonl")
    (saved,) = list_checkpoints(f"{bucket}/{name}")
    manifest = json.loads(storage.read_bytes(storage.join(saved.location, "manifest.json")))
    waited, behind, uploading = (
        median(series(metrics, f"checkpoint/{key}")[1])
        for key in ("seconds_waited", "seconds_waited_for_upload", "seconds_uploading")
    )
    return {
        "ranks": ranks,
        "parameters": GPTConfig(**manifest["model"]).n_parameters,
        "bytes": sum(entry["size"] for entry in manifest["files"].values()),
        "seconds_waited": round(
            waited - behind, 3
        ),  # here a save follows the other at once: its upload is not waited for
        "seconds_uploading": round(uploading, 3),
    }
