"""What validation measures, summed in fp64 over tokens, so that it depends on no batch size and no number of ranks."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class LanguageCrossEntropy(Metric):
    """Nats a predicted token, under the name of Composer's metric, which asks for logits; ours never leave forward."""

    nats: Tensor
    targets: Tensor
    bytes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("targets", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("bytes", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, batch: dict[str, Tensor]) -> None:
        """Add a batch: its mean loss over all positions but the first, as ComposerGPT gives it."""
        rows, length = batch["input_ids"].shape
        self.nats += loss.double() * rows * (length - 1)
        self.targets += rows * (length - 1)
        if "bytes" in batch:
            self.bytes += batch["bytes"].sum()

    def compute(self) -> Tensor:
        return self.nats / self.targets


class LanguagePerplexity(LanguageCrossEntropy):
    """e to the cross entropy."""

    def compute(self) -> Tensor:
        return super().compute().exp()


class BitsPerByte(LanguageCrossEntropy):
    """Bits for each byte of the predicted text: comparable between tokenizers. Separators cost bits and are no text."""

    def compute(self) -> Tensor:
        return self.nats / math.log(2) / self.bytes
