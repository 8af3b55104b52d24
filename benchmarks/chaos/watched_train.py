"""train.py, with a record of every sequence that is trained, and a bad step on demand: for the benchmark and for tests.

    WATCHED=FOLDER [BAD_BATCH=22 BAD_BY=nan] composer benchmarks/chaos/watched_train.py YAML [key=value …]

``FOLDER/rank-N.jsonl`` gets a line before each step: ``batch``, ``time`` (monotonic seconds) and ``rows``, the hash of
each sequence. In batch ``BAD_BATCH``, counted from 0, the last rank's loss is multiplied by ``BAD_BY``; where that is
``memory``, there is none for it.
"""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import dist

import train
from base.errors import run_command
from model.composer_gpt import ComposerGPT
from recipes import build


class Watch(Callback):
    """Writes down what a step is about to train."""

    def __init__(self, folder: Path):
        self.batch = -1
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / f"rank-{dist.get_global_rank()}.jsonl").open("a", encoding="utf-8")

    def batch_start(self, state: State, logger: Logger) -> None:
        self.batch = state.timestamp.batch.value
        rows = [row_hash(row) for row in state.batch["input_ids"]]
        self.file.write(json.dumps({"batch": self.batch, "time": time.monotonic(), "rows": rows}) + "\n")
        self.file.flush()


def row_hash(row: torch.Tensor) -> str:
    """Of the ids of one sequence (int64 T)."""
    return hashlib.sha256(row.cpu().numpy().tobytes()).hexdigest()[:16]


def main() -> None:
    callbacks, forward = build.build_callbacks, ComposerGPT.forward
    watch: list[Watch] = []

    def with_watch(*arguments: Any, **more: Any) -> list[Callback]:
        watch.append(Watch(Path(os.environ["WATCHED"])))
        return [*callbacks(*arguments, **more), *watch]

    def with_bad_step(model: ComposerGPT, batch: Any) -> torch.Tensor:
        loss = forward(model, batch)
        last_rank = dist.get_global_rank() == dist.get_world_size() - 1
        if model.training and last_rank and watch[0].batch == int(os.environ.get("BAD_BATCH", "-1")):
            if os.environ["BAD_BY"] == "memory":
                raise torch.OutOfMemoryError("there is no room for it")
            loss = loss * float(os.environ["BAD_BY"])
        return loss

    build.build_callbacks, ComposerGPT.forward = with_watch, with_bad_step  # type: ignore[assignment, method-assign]
    train.main()


if __name__ == "__main__":
    run_command(main)
