"""One training step, with one thing changed at a time. See benchmarks/gpu.py."""

import gc
import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from composer.core import Precision
from composer.distributed.prepare_distributed import parallelize_composer_model
from composer.optim import DecoupledAdamW
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import init_device_mesh

from model.composer_gpt import ComposerGPT
from model.config import GPTConfig
from model.gpt import GPT, Block
from model.loss import piece_of_loss
from recipes import build, parallel
from recipes.kernels import compile_model, use_float8
from recipes.schema import FSDP, Compile, Float8
from recipes.schema import DecoupledAdamW as Settings

WARM, STEPS = 3, 5
OPTIMIZER = Settings(name="decoupled_adamw", lr=1.6e-4, weight_decay=1.6e-5)


@dataclass(frozen=True)
class Lever:
    """A way to run a step. Two with the same ``model`` share one. No comma in a name: ``--levers`` splits there."""

    name: str
    attention: str = "default"
    compiled: str = ""  # blocks, loss
    loss: str = "chunked"  # plain, its own
    gelu: str = "fused"  # in parts
    dropout: float = 0.1
    microbatch: int | None = None  # the machine's
    optimizer: str = "fused"  # foreach, composer
    kind: str = "ours"  # transformers eager, transformers sdpa
    sharding: str = "none"  # SHARD_GRAD_OP, FULL_SHARD: by FSDP2 over the one rank
    recompute: bool = False
    fp8: str = ""  # a recipe of torchao
    documents: bool = False  # attention within documents

    @property
    def model(self) -> tuple[Any, ...]:
        return self.kind, self.sharding, self.recompute, self.fp8


BEST = Lever("ours all compiled", compiled="blocks loss")
LEVERS = (
    BEST,
    replace(BEST, name="cuDNN attention", attention="cudnn"),
    replace(BEST, name="flash attention", attention="flash"),
    replace(BEST, name="dropout 0", dropout=0.0),
    replace(BEST, name="dropout 0 within documents", dropout=0.0, documents=True),
    replace(BEST, name="blocks compiled and loss not", compiled="blocks"),
    replace(BEST, name="nothing compiled", compiled=""),
    replace(BEST, name="nothing compiled and plain loss", compiled="", loss="plain"),
    replace(BEST, name="nothing compiled microbatch 8", compiled="", microbatch=8),
    replace(BEST, name="nothing compiled GELU in parts", compiled="", gelu="in parts", microbatch=8),
    Lever("transformers sdpa", kind="transformers sdpa", loss="its own", microbatch=8),
    Lever("transformers eager attention", kind="transformers eager", loss="its own", microbatch=8),
    replace(BEST, name="GELU in parts", gelu="in parts"),
    replace(BEST, name="plain loss compiled", loss="plain"),
    replace(BEST, name="microbatch 8", microbatch=8),
    replace(BEST, name="microbatch 24", microbatch=24),
    replace(BEST, name="microbatch 32", microbatch=32),
    replace(BEST, name="optimizer foreach", optimizer="foreach"),
    replace(BEST, name="optimizer of Composer", optimizer="composer"),
    replace(BEST, name="FP8 tensorwise", fp8="tensorwise"),
    replace(BEST, name="FP8 tensorwise dropout 0", fp8="tensorwise", dropout=0.0),
    replace(BEST, name="FP8 rowwise", fp8="rowwise"),
    replace(BEST, name="SHARD_GRAD_OP", sharding="SHARD_GRAD_OP"),
    replace(BEST, name="FULL_SHARD", sharding="FULL_SHARD"),
    replace(BEST, name="FULL_SHARD activation checkpointing", sharding="FULL_SHARD", recompute=True),
)


@dataclass
class Machine:
    """The device, the shape, real tokens, and the model that the last lever has left."""

    device: str
    shape: GPTConfig
    peak: float
    tokens: Tensor
    microbatch: int
    built: dict[tuple[Any, ...], nn.Module] = field(default_factory=dict)
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], times: int = 10) -> float:
        """Mean of several runs in a row, after three."""
        for _ in range(3):
            work()
        self.wait()
        start = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - start) / times

    def product(self, rows: int, inner: int, columns: int) -> tuple[float, float]:
        """Seconds and FLOP/s of a bf16 product of random matrices."""
        a = torch.randn(rows, inner, device=self.device, dtype=torch.bfloat16)
        b = torch.randn(columns, inner, device=self.device, dtype=torch.bfloat16)
        seconds = self.seconds(lambda: F.linear(a, b), 3 if self.device == "cpu" else 10)
        return seconds, 2 * rows * inner * columns / seconds

    def mfu(self, tokens_per_second: float) -> float:
        return round(tokens_per_second * self.shape.flops_per_token() / self.peak, 4)

    def peak_memory(self) -> float | None:
        """GiB since it was last asked."""
        if self.device != "cuda":
            return None
        peak = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        torch.cuda.reset_peak_memory_stats()
        return peak

    def forget(self) -> None:
        """Free the model and its optimizer."""
        self.built.clear()
        self.optimizers.clear()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def model(self, lever: Lever) -> nn.Module:
        if lever.model not in self.built:
            self.forget()
            self.built[lever.model] = _build(self, lever)
        return self.built[lever.model]

    def optimizer(self, lever: Lever, model: nn.Module) -> torch.optim.Optimizer:
        if lever.optimizer not in self.optimizers:
            self.optimizers.clear()
            make = {"fused": _fused, "foreach": _foreach, "composer": _composer}[lever.optimizer]
            self.optimizers[lever.optimizer] = make(model)
        return self.optimizers[lever.optimizer]


def run_lever(machine: Machine, lever: Lever) -> dict[str, Any]:
    """Milliseconds of a microbatch (forward and backward) and of clipping with the optimizer's step."""
    model = machine.model(lever)
    model.train()
    loss_of = _prepare(model, lever)
    plain = torch.compile(_plain_loss, dynamic=False) if "loss" in lever.compiled else _plain_loss
    optimizer = machine.optimizer(lever, model)
    start = time.monotonic()
    passes, steps, losses = [], [], []
    count = lever.microbatch if lever.microbatch and machine.device == "cuda" else machine.microbatch
    in_bf16 = machine.device == "cuda" or lever.sharding == "none"  # Composer shards in fp32 only on the CPU
    for step in range(WARM + STEPS):
        first = step * count % max(len(machine.tokens) - count, 1)
        ids = machine.tokens[first : first + count].to(machine.device)
        machine.wait()
        begin = time.perf_counter()
        with (
            torch.autocast(machine.device, dtype=torch.bfloat16, enabled=in_bf16),
            patch("model.gpt.next_token_loss", plain) if lever.loss == "plain" else nullcontext(),
            patch("model.gpt.F.gelu", gelu_in_parts) if lever.gelu == "in parts" else nullcontext(),
        ):
            loss = loss_of(ids)
        loss.backward()
        machine.wait()
        middle = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        machine.wait()
        passes.append(middle - begin)
        steps.append(time.perf_counter() - middle)
        losses.append(loss.item())
        if step == WARM - 1:
            warm, warm_graphs = time.monotonic() - start, counters["stats"]["unique_graphs"]
    one_pass, one_step = statistics.median(passes[WARM:]), statistics.median(steps[WARM:])
    tokens = count * machine.shape.max_seq_len
    graphs = counters["stats"]["unique_graphs"]
    return {
        "microbatch": count,
        "ms_microbatch": round(1e3 * one_pass, 1),
        "ms_optimizer": round(1e3 * one_step, 1),
        "tokens_per_second": round(tokens / one_pass),
        "mfu": machine.mfu(tokens / one_pass),
        "tokens_per_second_with_optimizer": round(tokens / (one_pass + one_step)),
        "mfu_with_optimizer": machine.mfu(tokens / (one_pass + one_step)),
        "peak_gib": machine.peak_memory(),
        "seconds_to_warm": round(warm, 1),
        "graphs": graphs,
        "graphs_after_warming": graphs - warm_graphs,  # 0: nothing was compiled anew
        "loss": round(losses[-1], 3),
    }


def _build(machine: Machine, lever: Lever) -> nn.Module:
    if lever.kind != "ours":
        from transformers import GPT2Config, GPT2LMHeadModel

        from model.huggingface import config_to_huggingface

        attention = lever.kind.split()[1]
        with torch.device(machine.device):
            return GPT2LMHeadModel(GPT2Config(**config_to_huggingface(machine.shape, 0), attn_implementation=attention))
    sharded = lever.sharding != "none"
    gpt = GPT(machine.shape, "meta" if sharded and machine.device == "cuda" else machine.device)
    if lever.fp8:
        use_float8(gpt, Float8.model_validate({"recipe_name": lever.fp8}), emulate=machine.device == "cpu")
    model = ComposerGPT(gpt, seed=1)
    if not sharded:
        return model
    model.gpt.param_init_fn = lambda module: None
    fsdp = FSDP(sharding_strategy=lever.sharding, activation_checkpointing=lever.recompute)  # type: ignore[arg-type]
    config = parallel.build_parallelism(fsdp)["fsdp"]
    config.device_mesh = init_device_mesh(machine.device, (1,))
    parallelize_composer_model(model, None, config, Precision.AMP_BF16 if machine.device == "cuda" else Precision.FP32)
    _fill(model)
    return model


def _fill(model: nn.Module) -> None:
    """Weights of the right size on the device at once; which they are does not matter here."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif ".ln_" in name:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, 0.02)


def _prepare(model: nn.Module, lever: Lever) -> Callable[[Tensor], Tensor]:
    """Dropout and compilation as the lever has them; the loss of token ids."""
    torch._dynamo.reset()
    counters.clear()
    if lever.kind != "ours":
        return lambda ids: model(input_ids=ids, labels=ids, use_cache=False).loss
    assert isinstance(model, ComposerGPT)
    model.gpt.piece_of_loss = piece_of_loss
    model.gpt.end_of_text = model.config.vocab_size - 1 if lever.documents else None
    for module in model.modules():
        module.__dict__.pop("forward", None)  # the compiled one of the lever before
        if isinstance(module, nn.Dropout):
            module.p = lever.dropout
        if isinstance(module, Block):
            module.attn.dropout = lever.dropout
    if lever.compiled:
        compile_model(model, Compile())
        if "loss" not in lever.compiled:
            model.gpt.piece_of_loss = piece_of_loss
    return lambda ids: model({"input_ids": ids})


def _plain_loss(hidden: Tensor, weight: Tensor, labels: Tensor, *unused: Any) -> Tensor:
    """All logits at once, and autograd's own gradient."""
    logits = F.linear(hidden[:, :-1], weight)
    return F.cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten())


def gelu_in_parts(x: Tensor, approximate: str) -> Tensor:
    """The tanh GELU as transformers' ``gelu_new`` has it: a kernel for each operation where nothing is compiled."""
    assert approximate == "tanh"
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def _fused(model: nn.Module) -> torch.optim.Optimizer:
    return build.build_optimizer(OPTIMIZER, model)


def _foreach(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1.6e-4, betas=(0.9, 0.95), weight_decay=0.1, foreach=True)


def _composer(model: nn.Module) -> torch.optim.Optimizer:
    return DecoupledAdamW(model.parameters(), lr=1.6e-4, betas=(0.9, 0.95), weight_decay=1.6e-5)
