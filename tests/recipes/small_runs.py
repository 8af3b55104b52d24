"""Runs of a small model on small data, launched with Composer's launcher."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from small_data import LENGTH

from recipes.metrics import LOSS, read_metrics, series

ROOT = Path(__file__).parents[2]

# 50 sequences, 4 a batch: 12 batches an epoch, so a run of 20 crosses its end.
SMALL = {
    "max_seq_len": LENGTH,
    "model": {"name": "gpt", "d_model": 32, "n_heads": 2, "n_layers": 2},
    "optimizer": {"name": "decoupled_adamw", "lr": 1e-3, "weight_decay": 1e-4},
    "scheduler": {"name": "cosine_with_warmup", "t_warmup": "2ba"},
    "algorithms": {"gradient_clipping": {"clipping_type": "norm", "clipping_threshold": 1.0}},
    "global_train_batch_size": 4,
    "device_train_microbatch_size": 2,
    "max_duration": "20ba",
    "precision": "fp32",
    "autoresume": True,
    "save_interval": "5ba",
}
EACH = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def _start(command: list[str], environment: dict[str, str], stdin: int | None = None) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=stdin,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


class _Warm:
    """Keeps one launcher ready that has imported what ranks import."""

    def __init__(self) -> None:
        self._ready: subprocess.Popen[str] | None = None

    def launch(self, arguments: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
        process = self._ready or self._prepared()
        assert process.stdin is not None
        process.stdin.write(json.dumps([arguments, environment]) + "\n")
        process.stdin.close()
        process.stdin = None
        self._ready = self._prepared()
        return process

    def _prepared(self) -> "subprocess.Popen[str]":
        warm = [sys.executable, "-u", str(Path(__file__).with_name("warm_launcher.py"))]
        return _start(warm, os.environ | EACH, subprocess.PIPE)

    def close(self) -> None:
        if self._ready is not None:
            self._ready.communicate()  # without arguments it ends


WARM = _Warm()


@dataclass
class Run:
    """A training YAML of its own folder, launched as ``composer`` does.

    Attributes:
        environment: beside that of the tests.
        script: what each rank runs.
        cold: whether each rank starts an interpreter of its own, as everywhere else.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    script: str = "train.py"
    cold: bool = False

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def command(self, ranks: int, *overrides: str) -> list[str]:
        launcher = [sys.executable, "-m", "composer.cli.launcher", "-n", str(ranks)]
        return [*launcher, self.script, str(self.folder / "run.yaml"), *overrides]

    def start(self, ranks: int, *overrides: str) -> "subprocess.Popen[str]":
        command, environment = self.command(ranks, *overrides), os.environ | EACH | self.environment
        return _start(command, environment) if self.cold else WARM.launch(command[3:], environment)

    def train(self, ranks: int, *overrides: str, code: int = 0) -> str:
        process = self.start(ranks, *overrides)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        return output

    def wait_for(self, process: "subprocess.Popen[str]", batch: int) -> None:
        """Until ``batch`` is logged."""
        deadline = time.monotonic() + 120
        while batch not in self.metrics():
            assert process.poll() is None and time.monotonic() < deadline, f"it ended or hung before batch {batch}"
            time.sleep(0.02)

    def train_and_kill(self, ranks: int, at_batch: int, saved: str, overrides: Sequence[str] = ()) -> None:
        """SIGKILL to the launcher and all that it started, once ``at_batch`` is logged and ``saved`` is whole."""
        process = self.start(ranks, *overrides)
        deadline = time.monotonic() + 120
        while at_batch not in self.metrics() or not (self.checkpoints / saved / "manifest.json").exists():
            assert process.poll() is None and time.monotonic() < deadline, "it ended or hung before it could be killed"
            time.sleep(0.02)
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            try:
                one.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        process.communicate()

    def metrics(self) -> dict[int, dict[str, Any]]:
        path = self.folder / "run" / "metrics.jsonl"
        return read_metrics(path) if path.exists() else {}

    def manifest(self, checkpoint: str) -> dict[str, Any]:
        return json.loads((self.checkpoints / checkpoint / "manifest.json").read_text())

    def losses(self) -> list[float]:
        return series(self.metrics(), LOSS)[1]


def make_run(place: Path, packed: Path, name: str, changes: dict[str, Any]) -> Run:
    """A folder with its own copy of the data, and the YAML."""
    folder = place / name
    folder.mkdir()
    shutil.copytree(packed / "mds", folder / "mds")
    loader = {
        "name": "text",
        "dataset": {"remote": str(folder / "mds"), "local": str(folder / "cache"), "split": "train",
                    "shuffle": True, "shuffle_seed": 3, "num_canonical_nodes": 1},
    }  # fmt: skip
    places = {
        "run_name": name,
        "run_folder": str(folder / "run"),
        "save_folder": str(folder / "checkpoints"),
        "tokenizer": {"name": str(packed / "tokenizer")},
        "train_loader": loader,
    }
    (folder / "run.yaml").write_text(json.dumps({**SMALL, **places, **changes}))
    return Run(folder)
