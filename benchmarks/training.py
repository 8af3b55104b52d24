"""Tokens per second of training, three ways over the same weights and the same batches.

  trainer       what train.py runs: Composer's Trainer as recipes.build makes it from yamls/quickstart.yaml, our model,
                clipping, AdamW, schedule, speed monitor, metrics log and console
  bare_loop     a PyTorch loop over the same module with the same optimizer, clipping and schedule
  transformers  the same loop over GPT2LMHeadModel with SDPA (which has no attention scaling by layer: off for all)

12,267,520 parameters (6 layers, width 256, 4 heads, 28,896 entries), length 512, batch and microbatch 8, fp32, one
process, ids in memory; with dropout 0.1 as the recipe has it, and with none, where the three losses must agree. A
microbatch has 4,096 tokens, as in yamls/quickstart.yaml. The three take turns, and the fastest step of each counts.
With one thread it is CPU seconds that are counted, because the machine may be shared; with more, seconds of the clock,
because a thread that waits costs no CPU: for those the machine must be quiet. Checkpoints and scores are off.
Ours are compiled (compile_config: {}), in the Trainer and in the loop alike; transformers' is as its users run it, and
malloc is as it is. ``--keep-memory`` has malloc keep what a step has freed, as the quickstart does: transformers, whose
logits and their copies are 0.5 GB each, gains most by it.
Bars: trainer at least 0.97 of bare_loop, and at least 1.15 of transformers.

    python -m benchmarks training
"""

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from recipes.quickstart import KEEP_MEMORY

BARS = {"trainer/bare_loop": 0.97, "trainer/transformers": 1.15}


def measure(arguments: list[str]) -> dict[str, Any]:
    """By number of threads and dropout: tokens per second of each way, the ratios, the loss of each way's last step."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6, help="turns of each way (the first only warms up)")
    parser.add_argument("--steps", type=int, default=3, help="steps a turn (the first of them does not count)")
    parser.add_argument("--threads", default="1,2", metavar="N,…", help="threads of the process (default: 1,2)")
    parser.add_argument("--keep-memory", action="store_true", help="malloc gives nothing back between two steps")
    given = parser.parse_args(arguments)
    memory = KEEP_MEMORY if given.keep_memory else {}
    figures: dict[str, Any] = {"rounds": given.rounds, "steps_a_turn": given.steps, "bars": BARS}
    for threads in given.threads.split(","):
        # In a process of its own, since malloc and OpenMP read their settings when a process starts.
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.training_ways", threads, str(given.rounds), str(given.steps)],
            env=os.environ | memory | {"OMP_NUM_THREADS": threads}, stdout=subprocess.PIPE, check=True, text=True,
        )  # fmt: skip
        figures[f"threads_{threads}"] = json.loads(child.stdout.splitlines()[-1])
    return figures
