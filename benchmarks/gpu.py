"""Training steps of the 2.7B model on the one GPU that is there, by train.py's own Trainer and lever by lever.

correct   a small model, ten steps from the same weights on the same tokens: in fp32 the losses of the CPU to 1e-4; in
          bf16, with each kernel of attention, and in FP8 to 2e-2. A GPU that fails this is not timed.
ceilings  bf16 products, 8192³ and those of this model's layers with 16,384 tokens, and a copy
trainer   train.py's Trainer as recipes.build makes it from yamls/biomedlm.yaml, eight microbatches a step, 20 steps
          after three, over real tokens when ``--data`` has them
levers    one microbatch and one optimizer step at a time: ours, ours with one thing changed, transformers' GPT-2.
          Not sharded where it does not say otherwise, which is how the Trainer runs on one GPU. The median of the
          steps after the first three.

MFU is against 989 TFLOP/s and 16.550 GFLOP a token (6 x matmul parameters + 12 x layers x width x length); another
GPU's peak is given by ``--peak-tflops``. Bar: the Trainer at 0.55 at least. What does not run is in the record with its
reason. No part or lever is begun after ``--seconds``; what is not done a minute later is ended, and the rest is kept.

Works under the pinned torch, and under a newer one with Composer installed without its pins. ``--small`` is the same on
the CPU with a small shape, to try the script.

    python -m benchmarks --record gpu --data FOLDER     (a folder that python -m data_prep has made: mds, tokenizer)
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from base.progress import say

# What shares a process: the Trainer's memory is free for the levers only once its process has ended.
PROCESSES = (("correct", "ceilings", "trainer"), ("levers",))
LATE = 60.0  # seconds that what has begun may take beyond --seconds
# What AOTAutograd has kept is found by the graph before attention's kernel is chosen: asked for another kernel, it
# would give back the one that was compiled first.
FRESH = {"TORCHINDUCTOR_AUTOGRAD_CACHE": "0"}


def measure(arguments: list[str]) -> dict[str, Any]:
    """The figures of each part."""
    given = arguments_parser().parse_args(arguments)
    began = time.monotonic()
    figures: dict[str, Any] = {}
    for parts in PROCESSES:
        wanted = [part for part in parts if part in given.parts.split(",")]
        if not wanted or not figures.get("correct", {}).get("passed", True):
            continue
        left = given.seconds - (time.monotonic() - began)
        figures |= _in_a_process([*arguments, "--parts", ",".join(wanted), "--seconds", str(left)], left + LATE)
        say(f"{', '.join(wanted)}: {time.monotonic() - began:.0f} s in all")
    for line in table(figures):
        say(line)
    return figures


def table(figures: dict[str, Any]) -> list[str]:
    """The Trainer and the levers as lines, one under the other; of what was not measured, why."""
    columns = (("ms_microbatch", "ms"), ("ms_optimizer", "ms optimizer"), ("tokens_per_second", "tokens/s"),
               ("mfu", "MFU"), ("peak_gib", "GiB"), ("loss", "loss"))  # fmt: skip
    levers = figures.get("levers", {})
    if "failed" in levers or "left_out" in levers:  # all of them
        levers = {"levers": levers}
    rows = {"train.py's Trainer": figures.get("trainer"), **levers}
    lines = [f"{'':<40}" + "".join(f"{title:>14}" for _, title in columns)]
    for name, row in rows.items():
        if row is None:
            continue
        reason = row.get("failed") or row.get("left_out")
        cells = [f"{value:>14,}" if (value := row.get(key)) is not None else f"{'-':>14}" for key, _ in columns]
        lines.append(f"{name:<40}" + (f"  {reason}" if reason else "".join(cells)))
    return lines


def _in_a_process(arguments: list[str], seconds: float) -> dict[str, Any]:
    """The last figures of a process that prints them after each lever; it is ended when the time is up."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu_parts", *arguments],
        env={"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"} | os.environ | FRESH,
        stdout=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(max(seconds, 1), child.kill)
    timer.start()
    assert child.stdout is not None
    figures: dict[str, Any] = {}
    for line in child.stdout:
        figures = json.loads(line)
    timer.cancel()
    if child.wait() != 0:
        figures["cut"] = f"the process ended with {child.returncode}; what follows its last part was not measured"
    return figures


def arguments_parser() -> argparse.ArgumentParser:
    """Of the command, and of the processes that it starts."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="packed sequences of 1,024 (mds/train) and their tokenizer")
    parser.add_argument("--parts", default="correct,ceilings,trainer,levers", help="some of them")
    parser.add_argument("--seconds", type=float, default=480, help="no part or lever is begun after these")
    parser.add_argument("--peak-tflops", type=float, default=989, help="bf16, dense: of this GPU (A100: 312)")
    parser.add_argument(
        "--attention", default="default", help="the Trainer's: default, flash, cudnn, efficient or math"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the Trainer's YAML")
    parser.add_argument("--levers", help="only those whose name has one of these words, with commas between")
    parser.add_argument("--small", action="store_true", help="a small shape on the CPU: the script, not the speed")
    return parser
