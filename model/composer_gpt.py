"""The Composer model around the decoder: what the Trainer, FSDP2 and the speed monitor ask of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from composer.models import ComposerModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric

from model.gpt import GPT, Block, initialize, initialize_module
from model.metrics import BitsPerByte, LanguageCrossEntropy, LanguagePerplexity


class ComposerGPT(ComposerModel):
    """A GPT whose batches are ``{"input_ids": B T}`` and whose forward gives the loss.

    Args:
        gpt: the decoder; it gets its initial weights here, or, from the meta device, only after sharding.
        seed: the initial weights depend on it alone.
    """

    def __init__(self, gpt: GPT, seed: int):
        super().__init__()
        self.config = gpt.config
        self.gpt = gpt
        if not gpt.wte.weight.is_meta:
            initialize(gpt, seed)
        names = {module: name for name, module in gpt.named_modules()}
        # Composer looks these up on its model's children. One unit of sharding, and of recomputation, a block;
        # embeddings and the last norm stay in the root unit, together with the tied head.
        self.gpt.fsdp_wrap_fn = _is_block
        self.gpt.activation_checkpointing_fn = _is_block
        # Called for each module after sharding, when the model was built on the meta device.
        self.gpt.param_init_fn = lambda module: initialize_module(module, names[module], gpt.config, seed)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """The loss of a training batch; with ``positions`` in the batch, the logits there (B P V), of rows that may
        branch (``branches``, see :class:`model.branches.Branches`)."""
        if "positions" in batch:
            return self.gpt(batch["input_ids"], positions=batch["positions"], branches=batch.get("branches"))
        return self.gpt(batch["input_ids"], labels=batch["input_ids"])

    def loss(self, outputs: Tensor, batch: Any) -> Tensor:
        """Computed in forward, so that logits never leave it."""
        return outputs

    def get_metrics(self, is_train: bool) -> dict[str, Metric]:
        """None in training, where a metric would cost a second pass over the logits."""
        metrics = (LanguageCrossEntropy, LanguagePerplexity, BitsPerByte)
        return {} if is_train else {metric.__name__: metric() for metric in metrics}

    def eval_forward(self, batch: Any, outputs: Any = None) -> Any:
        """The loss; called as a module, because FSDP2 gathers weights in hooks that ``forward`` alone passes by."""
        return self(batch) if outputs is None else outputs

    def update_metric(self, batch: Any, outputs: Any, metric: Metric) -> None:
        metric.update(outputs, batch)

    def flops_per_batch(self, batch: Mapping[str, Tensor]) -> float:
        """For Composer's SpeedMonitor; the convention is :meth:`GPTConfig.flops_per_token`'s."""
        return self.config.flops_per_token() * batch["input_ids"].numel()


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, Block)


def token_count(batch: Mapping[str, Tensor]) -> int:
    """Tokens of a batch, for Composer's DataSpec."""
    return batch["input_ids"].numel()


def stack(samples: list[dict[str, Any]]) -> dict[str, NDArray[np.uint16]]:
    """MDS samples (``tokens``: uint16[T]) → ``{"input_ids": uint16[B, T]}``, as a loader's worker hands them over.

    An array goes through the pipe between the two. For a tensor torch would open a socket and pass a file descriptor,
    at each batch: with int64 that cost more than reading the samples.
    """
    return {"input_ids": np.stack([sample["tokens"] for sample in samples])}


def widen(batch: Mapping[str, NDArray[np.uint16]], pin: bool = False) -> dict[str, Tensor]:
    """What :func:`stack` gives → ``{"input_ids": int64[B, T]}``, in pinned memory if asked for."""
    ids = torch.from_numpy(batch["input_ids"].astype(np.int64))
    return {"input_ids": ids.pin_memory() if pin else ids}


def collate(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """MDS samples → ``{"input_ids": int64[B, T]}`` at once."""
    return widen(stack(samples))
