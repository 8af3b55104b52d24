"""What guard and watchdog cost a step: steps with and without them, in turn, in one run on two ranks.

The step is a small one on the CPU, some tenths of a second; the guard's part is an all-reduce of one number, one wait
for the device, and the mean and deviation of two windows of 128, whatever the size of the model.

    python -m benchmarks guards [--steps 200]
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

BAR = 0.01


def measure(arguments: list[str]) -> dict[str, Any]:
    """Seconds of a step without and with them (medians), the difference, and its part of the step."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks guards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args(arguments).steps
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        subprocess.run(
            [sys.executable, "-m", "composer.cli.launcher", "-n", "2", "-m", "benchmarks.guards", folder, str(steps)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.getcwd()},
            stdout=sys.stderr, check=True,
        )  # fmt: skip
        seconds = json.loads(Path(folder, "seconds.json").read_text())
    pairs = [on - off for off, on in zip(seconds["without"], seconds["with"], strict=True)]
    without = median(seconds["without"])
    share = median(pairs) / without
    return {
        "step_seconds_without": round(without, 5),
        "step_seconds_with": round(median(seconds["with"]), 5),
        "cost_seconds": round(median(pairs), 5),  # of steps that follow one another: the machine may be shared
        "share_of_step": round(share, 4),
        "bar": BAR,
        "bar_met": share <= BAR,
        "pairs": len(pairs),
    }


def main(folder: Path, steps: int) -> None:
    """On each rank."""
    import time

    import torch
    from composer import Callback, Logger, State, Trainer
    from composer.utils import dist

    from model.composer_gpt import ComposerGPT
    from model.config import GPTConfig
    from model.gpt import GPT
    from recipes.batch_size import BatchSizes
    from recipes.callbacks.clip_grad_norm import ClipGradNorm
    from recipes.callbacks.guard import Guard
    from recipes.callbacks.watchdog import Watchdog
    from recipes.schema import Guard as Settings
    from recipes.train_loader import TrainLoader

    def is_watched(state: State) -> bool:
        return state.timestamp.batch.value % 2 == 1

    class EverySecond(Guard):
        def after_backward(self, state: State, logger: Logger) -> None:
            if is_watched(state):
                super().after_backward(state, logger)

        def after_train_batch(self, state: State, logger: Logger) -> None:
            if is_watched(state):
                super().after_train_batch(state, logger)

    class Clock(Callback):
        seconds: dict[bool, list[float]] = {False: [], True: []}

        def batch_start(self, state: State, logger: Logger) -> None:
            self.began = time.perf_counter()

        def batch_end(self, state: State, logger: Logger) -> None:
            watched = state.timestamp.batch.value % 2 == 0  # the batch is counted by now
            self.seconds[watched].append(time.perf_counter() - self.began)

    dist.initialize_dist("cpu")
    shape = GPTConfig(vocab_size=4096, max_seq_len=128, d_model=256, n_heads=4, n_layers=6)
    model, clip, clock = ComposerGPT(GPT(shape), seed=1), ClipGradNorm(1.0), Clock()
    rows = [{"input_ids": torch.randint(4096, (128,))} for _ in range(16 * steps)]
    guard = EverySecond(Settings(not_finite="skip", loss_spike="skip", gradient_spike="skip"), clip, None)
    trainer = Trainer(
        model=model,
        train_dataloader=TrainLoader(BatchSizes(8), len(rows), rows, batch_size=4, sampler=dist.get_sampler(rows)),  # type: ignore[arg-type]
        optimizers=torch.optim.AdamW(model.parameters(), lr=1e-4),
        device_train_microbatch_size=2,
        max_duration=f"{2 * steps + 20}ba",
        callbacks=[clock, clip, guard, Watchdog(600, folder / "stacks")],
        device="cpu",
        progress_bar=False,
    )
    trainer.fit()
    if dist.get_global_rank() == 0:
        without, watched = (clock.seconds[which][10 : 10 + steps] for which in (False, True))
        (folder / "seconds.json").write_text(json.dumps({"without": without, "with": watched}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
