"""The parts of `python -m benchmarks gpu`, some in one process; each line that it prints is all figures so far."""

import argparse
import json
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from composer import Callback, Logger, State
from composer.core import DataSpec
from composer.utils import dist, get_device
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from base.configuration import load_configuration
from base.errors import UserError, run_command
from base.progress import say
from benchmarks.gpu import ATTENTION, arguments_parser
from benchmarks.gpu_levers import LEVERS, Lever, Machine, run_lever
from model.composer_gpt import ComposerGPT, collate, token_count
from model.config import GPTConfig
from model.gpt import GPT, initialize
from recipes import build
from recipes.kernels import compile_model, use_float8
from recipes.schema import Compile, Float8, Training

WARM, STEPS = 3, 20
SMALL = ["model.d_model=128", "model.n_heads=2", "model.n_layers=2", "max_seq_len=128", "model.vocab_size=512",
         "model.init_device=cpu", "precision=fp32"]  # fmt: skip
# bf16, dense, TFLOP/s, by words of the device's name: NVIDIA's data sheets. The first that fits.
PEAKS = (({"H100", "PCIe"}, 756), ({"H100"}, 989), ({"H200"}, 989), ({"A100"}, 312))
SLOWER = {"NVL", "MIG"}  # another peak under the same name
ROOMY = 120  # GiB: the Trainer's microbatches of 24 take 113


def run_parts(given: argparse.Namespace) -> None:
    """Print each part's figures by its name as they come; a part that fails leaves its reason."""
    if not given.small and not torch.cuda.is_available():
        raise UserError("benchmarks gpu: torch sees no GPU here; --small tries the script on the CPU")
    wanted = _wanted(given)
    peak = given.peak_tflops or (989 if given.small else peak_tflops(torch.cuda.get_device_name()))
    microbatch, of_trainer = (2, 2) if given.small else microbatches_for(_gib())
    began = time.monotonic()
    dist.initialize_dist(get_device("cpu" if given.small else "gpu"))
    config = load_configuration("yamls/biomedlm.yaml", _overrides(given, of_trainer), Training)
    assert config.model.vocab_size is not None
    shape = config.gpt_config(config.model.vocab_size)
    machine = Machine("cpu" if given.small else "cuda", shape, peak * 1e12, _tokens(given.data, shape), microbatch)
    parts: dict[str, Callable[[], Any]] = {
        "correct": lambda: correct(machine.device),
        "ceilings": lambda: ceilings(machine, 256 if given.small else 16_384),
        "trainer": lambda: trainer(config, machine, given),
        "levers": lambda: levers(machine, wanted, given.seconds, began, figures),
    }
    figures: dict[str, Any] = {"gpu": _gpu(machine), "tokens": "real" if given.data else "random"}
    for name in given.parts:
        if time.monotonic() - began > given.seconds:
            figures[name] = {"left_out": f"not begun within {given.seconds:.0f} s"}
            continue
        start = time.monotonic()
        try:
            figures[name] = parts[name]()
        except Exception as error:
            traceback.print_exc()
            figures[name] = {"failed": f"{type(error).__name__}: {error}"[:500]}
        say(f"{name}, {time.monotonic() - start:.0f} s: {figures[name]}")
        print(json.dumps(figures), flush=True)
        if name == "correct" and not figures[name].get("passed"):
            break


def _wanted(given: argparse.Namespace) -> list[Lever]:
    words = given.levers.split(",") if given.levers else [""]
    wanted = [lever for lever in LEVERS if any(word in lever.name for word in words)]
    if not wanted:
        names = "; ".join(lever.name for lever in LEVERS)
        raise UserError(f"benchmarks gpu: --levers {given.levers} is in no lever's name; they are: {names}")
    return wanted


def peak_tflops(name: str) -> float:
    """bf16, dense, of the device of this name.

    Raises:
        UserError: it is not known.
    """
    words = set(name.replace("-", " ").split())
    for known, peak in PEAKS:
        if known <= words and not words & SLOWER:
            return peak
    raise UserError(f"benchmarks gpu: the peak of {name} is not known; give it with --peak-tflops (bf16, dense)")


def _gib() -> float:
    return torch.cuda.get_device_properties(0).total_memory / 2**30


def microbatches_for(gib: float) -> tuple[int, int]:
    """Sequences of 1,024 for the levers and for the Trainer, on a GPU with so much memory."""
    return (16, 24) if gib >= ROOMY else (8, 8)


def _overrides(given: argparse.Namespace, micro: int) -> list[str]:
    without = [] if given.data else ["callbacks.loader_wait=null", "callbacks.step_time=null"]  # they time our loader
    return [
        *(SMALL if given.small else []),
        *without,
        f"global_train_batch_size={6 * micro}", f"device_train_microbatch_size={micro}",
        f"max_duration={WARM + STEPS}ba", "scheduler.t_warmup=2ba", "scheduler.t_max=100ba", "compile_config={}",
        f"tokenizer.name={given.data or '.'}/tokenizer",
        "train_loader.dataset.remote=null", f"train_loader.dataset.local={given.data or '.'}/mds",
        "train_loader.dataset.num_canonical_nodes=1", "callbacks.score_checkpoints=null", "save_folder=null",
        "autoresume=false", "progress_bar=false", "console_log_interval=1ba", "hardware=null", *given.set,
    ]  # fmt: skip


def _gpu(machine: Machine) -> dict[str, Any]:
    about: dict[str, Any] = {"device": machine.device, "torch": torch.__version__, "peak_tflops": machine.peak / 1e12}
    if machine.device == "cuda":
        about |= {"name": torch.cuda.get_device_name(), "gib": round(_gib(), 1), "cuda": torch.version.cuda}
        about |= {"cudnn": torch.backends.cudnn.version()}
    return about | {"microbatch": machine.microbatch}


def _tokens(data: Path | None, shape: GPTConfig) -> Tensor:
    """Sequences to take microbatches from: N T, int64."""
    if data is None:
        generator = torch.Generator().manual_seed(5)
        return torch.randint(shape.vocab_size, (64, shape.max_seq_len), generator=generator)
    from streaming import StreamingDataset

    dataset = StreamingDataset(local=str(data / "mds"), split="train", batch_size=1)
    rows = [dataset[number]["tokens"] for number in range(min(len(dataset), 512))]
    tokens = torch.from_numpy(np.stack(rows).astype("int64"))[:, : shape.max_seq_len]
    return tokens.clamp(max=shape.vocab_size - 1)


def correct(device: str) -> dict[str, Any]:
    """Largest relative difference of ten losses to those of the CPU in fp32.

    A GPU need not have every kernel, nor FP8: what does not run there is in ``failed`` and does not count as wrong.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    reference = _ten_losses("cpu", "fp32", attention="default", compiled=False)
    anywhere = [("fp32", "default", False), ("fp32", "default", True)]
    anywhere += [("bf16", "math", False), ("bf16", "default", True)]
    by_gpu = [("bf16", "flash", True), ("bf16", "cudnn", True)]
    by_gpu += [("tensorwise", "default", True), ("rowwise", "default", True)]
    differences, faults, wrong = {}, {}, []
    for way in [*anywhere, *(by_gpu if device == "cuda" else [])]:
        precision, attention, compiled = way
        name = f"{precision} {attention} attention {'compiled' if compiled else 'eager'}"
        try:
            losses = _ten_losses(device, precision, attention, compiled)
        except Exception as error:
            faults[name] = f"{type(error).__name__}: {error}"[:300]
            wrong += [name] if way in anywhere else []
            continue
        apart = max(_apart(one, other) for one, other in zip(losses, reference, strict=True))
        differences[name] = float(f"{apart:.2e}")
        wrong += [] if apart <= (1e-4 if precision == "fp32" else 2e-2) else [name]
    return {"passed": not wrong, "wrong": wrong, "differences": differences, "failed": faults,
            "loss_first_and_last": [round(reference[0], 5), round(reference[-1], 5)]}  # fmt: skip


def _apart(one: float, other: float) -> float:
    """Relative. Not a number is as far as can be: the largest of some numbers would pass over it."""
    apart = abs(one - other) / other
    return math.inf if math.isnan(apart) else apart


@contextmanager
def _attention(name: str, device: str) -> Iterator[None]:
    """Only this kernel, compiled or not; as training has it where there is no choice."""
    kernel = ATTENTION[name]
    if device != "cuda" or kernel is None:
        yield
        return
    backend = getattr(SDPBackend, kernel)
    with sdpa_kernel(backend), patch("recipes.kernels.attention_order", lambda capability: [backend]):
        yield


def _ten_losses(device: str, precision: str, attention: str, compiled: bool) -> list[float]:
    shape = GPTConfig(vocab_size=512, max_seq_len=256, d_model=256, n_heads=2, n_layers=4, attn_pdrop=0, resid_pdrop=0,
                      embd_pdrop=0)  # fmt: skip
    gpt = GPT(shape)
    if precision in ("tensorwise", "rowwise"):  # FP8, by torchao's recipes
        use_float8(gpt, Float8.model_validate({"recipe_name": precision}))
    initialize(gpt, seed=1)
    gpt.to(device)
    torch._dynamo.reset()
    if compiled:
        compile_model(gpt, Compile())
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3, weight_decay=0.1, fused=True)
    ids = (torch.arange(4 * 256).view(4, 256) * 7 % 512).to(device)  # a pattern that can be learned
    losses = []
    with _attention(attention, device):
        for _ in range(10):
            with torch.autocast(device, dtype=torch.bfloat16, enabled=precision != "fp32"):
                loss = gpt(ids, labels=ids)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    return losses


def ceilings(machine: Machine, tokens: int) -> dict[str, Any]:
    """TFLOP/s of products, GB/s of a copy, and the MFU that this model would have if nothing but its products ran."""
    size = 512 if machine.device == "cpu" else 8192
    d, V, L = machine.shape.d_model, machine.shape.vocab_size, machine.shape.n_layers
    figures: dict[str, Any] = {f"bf16_{size}": round(machine.product(size, size, size)[1] / 1e12, 1)}
    seconds = 0.0
    for name, k, n, times in (("c_attn", d, 3 * d, L), ("c_proj", d, d, L), ("c_fc", d, 4 * d, L),
                              ("mlp.c_proj", 4 * d, d, L), ("head", d, V, 1)):  # fmt: skip
        passes = {"forward": (tokens, k, n), "d_input": (tokens, n, k), "d_weight": (n, tokens, k)}
        for kind, (rows, inner, columns) in passes.items():
            taken, rate = machine.product(rows, inner, columns)
            seconds += times * taken
            figures[f"{name} {kind}"] = round(rate / 1e12, 1)
    figures["mfu_of_products_alone"] = machine.mfu(tokens / seconds)
    source = torch.empty(2**26 if machine.device == "cpu" else 2**32, dtype=torch.uint8, device=machine.device)
    target = torch.empty_like(source)
    figures["copy_gb_per_second"] = round(2 * source.numel() / machine.seconds(lambda: target.copy_(source)) / 1e9)
    return figures


def levers(
    machine: Machine, wanted: list[Lever], seconds: float, began: float, so_far: dict[str, Any]
) -> dict[str, Any]:
    """By lever: milliseconds of a microbatch and of the optimizer, tokens a second, MFU, memory, graphs made.

    What is there is printed after each, with the figures of the parts before: a lever may hang.
    """
    figures: dict[str, Any] = {}
    for lever in wanted:
        if time.monotonic() - began > seconds:
            figures[lever.name] = {"left_out": f"not begun within {seconds:.0f} s"}
            continue
        start = time.monotonic()
        try:
            with _attention(lever.attention, machine.device):
                figures[lever.name] = run_lever(machine, lever)
        except Exception as error:
            machine.forget()
            figures[lever.name] = {"failed": f"{type(error).__name__}: {error}"[:300]}
        seen = f"{time.monotonic() - began:4.0f} s, {lever.name} ({time.monotonic() - start:.0f} s)"
        say(f"{seen}: {figures[lever.name]}")
        print(json.dumps(so_far | {"levers": figures}), flush=True)
    machine.forget()
    return figures


class Clock(Callback):
    """Seconds between the ends of batches, once the device has done them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.ends: list[float] = []
        self.losses: list[float] = []

    def batch_end(self, state: State, logger: Logger) -> None:
        self.machine.wait()
        self.ends.append(time.monotonic())
        self.losses.append(float(state.loss))


def trainer(config: Training, machine: Machine, given: argparse.Namespace) -> dict[str, Any]:
    """What train.py runs."""
    start = time.monotonic()
    clock = Clock(machine)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        config = config.model_copy(update={"run_folder": folder})
        model: ComposerGPT = build.build_model(config, machine.shape)
        if given.data is not None:
            loader = build.build_train_data(config, machine.shape.vocab_size)
        else:
            rows = machine.tokens.repeat(WARM + STEPS, 1)[: config.global_train_batch_size * (WARM + STEPS)].numpy()
            samples = [{"tokens": row.astype("uint16")} for row in rows]
            batches = DataLoader(samples, batch_size=config.global_train_batch_size, collate_fn=collate)  # type: ignore[arg-type]
            loader = DataSpec(dataloader=batches, get_num_tokens_in_batch=token_count)
        callbacks = [clock, *build.build_callbacks(config, Path())]
        built = build.build_trainer(
            config, model, loader, callbacks, build.build_loggers(config, None, run_id="", goes_on=False)
        )
        ready = time.monotonic()
        with _attention(given.attention, machine.device):
            built.fit()
        built.close()
    seconds = (clock.ends[-1] - clock.ends[WARM - 1]) / STEPS
    tokens = config.tokens_per_batch
    peak = machine.peak_memory()
    return {
        "attention": given.attention,
        "set": given.set,
        "microbatch": config.device_train_microbatch_size,
        "tokens_a_step": tokens,
        "seconds_a_step": round(seconds, 4),
        "tokens_per_second": round(tokens / seconds),
        "mfu": machine.mfu(tokens / seconds),
        "bar": 0.55,
        "bar_met": machine.mfu(tokens / seconds) >= 0.55,
        "peak_gib": peak,
        "seconds_to_build": round(ready - start, 1),
        "seconds_to_first_batch": round(clock.ends[0] - ready, 1),
        "loss_first_and_last": [round(clock.losses[0], 4), round(clock.losses[-1], 4)],
    }


def main() -> None:
    run_parts(arguments_parser().parse_args(sys.argv[1:]))


if __name__ == "__main__":
    run_command(main)
