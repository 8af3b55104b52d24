"""Training steps of the 2.7B model on the one GPU that is there, by train.py's own Trainer and lever by lever.

correct   a small model, ten steps from the same weights on the same tokens: in fp32 the losses of the CPU to 1e-4; in
          bf16, with each kernel of attention, and in FP8 to 2e-2. If this was asked for and has not passed, whatever
          the reason, nothing else is timed.
ceilings  bf16 products, 8192³ and those of this model's layers with 16,384 tokens, and a copy
trainer   train.py's Trainer as recipes.build makes it from yamls/biomedlm.yaml, six microbatches a step, 20 steps
          after three, over real tokens when ``--data`` has them
levers    one microbatch and one optimizer step at a time: ours, ours with one thing changed, transformers' GPT-2.
          Not sharded where it does not say otherwise, which is how the Trainer runs on one GPU. The median of the
          steps after the first three. ``graphs`` are those that torch.compile has made, ``graphs_after_warming``
          those of them after the first three steps.

A microbatch has 16 sequences and the Trainer's 24, on a GPU with less than 120 GiB 8, where a lever does not say
otherwise. MFU is of 16.550 GFLOP a token (6 x matmul parameters + 12 x layers x width x length) and the peak of the GPU
by its name: 989 TFLOP/s for H200 and H100, 756 for H100 PCIe, 312 for A100, for another what ``--peak-tflops`` says.
Bar: the Trainer at 0.55 at least. What does not run is in the record with its reason. No part or lever is begun after
``--seconds``; what is not done a minute later is ended, and the rest is kept.

Has run on an H200 under torch 2.11, with Composer installed without its pins, and on the CPU under that and the pinned
2.7; not on a GPU under 2.7. ``--small`` is the same on the CPU with a small shape, to try the script.

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

from base.errors import MENDABLE
from base.progress import say

# What shares a process: the Trainer's memory is free for the levers only once its process has ended.
PROCESSES = (("correct", "ceilings", "trainer"), ("levers",))
PARTS = [part for parts in PROCESSES for part in parts]
ATTENTION = {  # name: the kernel in torch.nn.attention.SDPBackend
    "default": None,
    "flash": "FLASH_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "math": "MATH",
}
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
        wanted = [part for part in parts if part in given.parts]
        if not wanted:
            continue
        left = given.seconds - (time.monotonic() - began)
        found, cut = _in_a_process([*arguments, "--parts", ",".join(wanted), "--seconds", str(left)], left + LATE)
        figures |= found
        if cut:
            figures.setdefault("cut", {})[", ".join(wanted)] = cut
        say(f"{', '.join(wanted)}: {time.monotonic() - began:.0f} s in all")
        if "correct" in wanted and not figures.get("correct", {}).get("passed"):
            figures["stopped"] = "`correct` has not passed, so nothing after it was measured"
            break
    for line in table(figures):
        say(line)
    return figures


COLUMNS = (
    ("microbatch", "microbatch"),
    ("ms_microbatch", "ms"),
    ("ms_optimizer", "ms opt."),
    ("tokens_per_second", "tokens/s"),
    ("mfu", "MFU"),
    ("tokens_per_second_with_optimizer", "t/s w. opt."),
    ("mfu_with_optimizer", "MFU w. opt."),
    ("peak_gib", "GiB"),
)


def table(figures: dict[str, Any]) -> list[str]:
    """The Trainer and the levers as lines, one under the other; of what was not measured or is wrong, why.

    ``ms``, ``tokens/s`` and ``MFU`` are of forward and backward alone. With clipping and the optimizer's step (``w.
    opt.``) a lever takes one step for each microbatch, the Trainer one for six.
    """
    rows: dict[str, dict[str, Any]] = {}
    correct, ceilings = figures.get("correct", {}), figures.get("ceilings", {})
    if wrong := correct.get("wrong"):
        seen = correct["failed"] | correct["differences"]
        rows["correct"] = {"failed": "; ".join(f"{way}: {seen[way]}" for way in wrong)}
    elif "passed" not in correct and _reason(correct):
        rows["correct"] = correct
    if _reason(ceilings):
        rows["ceilings"] = ceilings
    if "trainer" in figures:
        names = {"tokens_per_second": "tokens_per_second_with_optimizer", "mfu": "mfu_with_optimizer"}
        rows["train.py's Trainer"] = {names.get(key, key): value for key, value in figures["trainer"].items()}
    levers = figures.get("levers", {})
    rows |= {"levers": levers} if _reason(levers) else levers
    rows |= {f"cut: {parts}": {"failed": reason} for parts, reason in figures.get("cut", {}).items()}
    if "stopped" in figures:
        rows["stopped"] = {"failed": figures["stopped"]}
    lines = [f"{'':<38}" + "".join(f"{title:>12}" for _, title in COLUMNS)]
    for name, row in rows.items():
        cells = [f"{value:>12,}" if (value := row.get(key)) is not None else f"{'-':>12}" for key, _ in COLUMNS]
        lines.append(f"{name:<38}" + (f"  {reason}" if (reason := _reason(row)) else "".join(cells)))
    return lines


def _reason(figure: dict[str, Any]) -> str:
    """Why there is no figure, on one line; empty if there is one."""
    reason = str(figure.get("failed") or figure.get("left_out") or "")
    return reason.strip().split("\n")[0][:100]


def _in_a_process(arguments: list[str], seconds: float) -> tuple[dict[str, Any], str]:
    """The last figures of a process that prints them after each part and lever, and, if it did not end by itself, why.

    It is ended when the time is up. What the user can mend it has said itself, and ends this command too.
    """
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
    code = child.wait()
    if code == MENDABLE:
        sys.exit(MENDABLE)
    return figures, f"ended with {code}; what follows its last figures was not measured" if code else ""


def arguments_parser() -> argparse.ArgumentParser:
    """Of the command, and of the processes that it starts."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="packed sequences of 1,024 (mds/train) and their tokenizer")
    parser.add_argument("--parts", type=_parts, default=PARTS, help=f"some of {','.join(PARTS)}, with commas between")
    parser.add_argument("--seconds", type=float, default=480, help="no part or lever is begun after these")
    parser.add_argument("--peak-tflops", type=float, help="bf16, dense; without it, by the GPU's name")
    parser.add_argument("--attention", choices=ATTENTION, default="default", help="the Trainer's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the Trainer's YAML")
    parser.add_argument("--levers", help="only those whose name has one of these words, with commas between")
    parser.add_argument("--small", action="store_true", help="a small shape on the CPU: the script, not the speed")
    return parser


def _parts(given: str) -> list[str]:
    parts = given.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"no part {', '.join(map(repr, unknown))}; they are {', '.join(PARTS)}")
    return parts
