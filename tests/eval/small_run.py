"""A small Composer run with dropout, as a module that a launcher can start on two ranks too.

``python small_run.py DATA TOKENIZER OUT`` trains with and without scoring, and writes ``OUT/{with,without}.RANK.pt``.
"""

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composer import Callback, Trainer
from composer.utils import dist
from composer.utils.parallelism import FSDP2Config
from torch import nn
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader

from eval.callback import ScoreCheckpoints
from model.composer_gpt import ComposerGPT
from model.config import GPTConfig
from model.gpt import GPT

VOCABULARY, LENGTH = 600, 256


class SmallModel(ComposerGPT):
    """With dropout, and scoring that spoils every random state."""

    def __init__(self) -> None:
        super().__init__(
            GPT(GPTConfig(vocab_size=VOCABULARY, max_seq_len=LENGTH, d_model=32, n_layers=2, n_heads=2)), 1
        )
        self.frozen = nn.Dropout()
        self.frozen.eval()  # in another mode than the model around it
        self.scored = 0

    def forward(self, batch: Mapping[str, Any]) -> torch.Tensor:
        if "positions" in batch:
            assert not (self.training or self.gpt.dropout.training or torch.is_grad_enabled())
            self.scored += 1
            torch.manual_seed(self.scored)
            random.seed(self.scored)
            np.random.seed(self.scored)
        return super().forward(batch)


class Losses(Callback):
    """The loss of each batch, a draw from each random state, and the mode of the frozen part."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, float, bool]] = []

    def after_loss(self, state: Any, logger: Any) -> None:
        frozen = state.model.module.frozen if hasattr(state.model, "module") else state.model.frozen
        self.seen.append((float(state.loss), random.random(), float(np.random.rand()), frozen.training))


def train(scoring: ScoreCheckpoints | None, batches: int = 6, **arguments: Any) -> tuple[Trainer, Losses]:
    """Train on random ids for some batches of two rows a rank; returns the closed trainer and its losses."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randint(0, VOCABULARY, (64, 32), generator=generator)
    model, losses = SmallModel(), Losses()
    data = [{"input_ids": row} for row in rows]
    trainer = Trainer(
        model=model,
        train_dataloader=DataLoader(data, batch_size=2, sampler=dist.get_sampler(data)),  # type: ignore[arg-type]
        max_duration=f"{batches}ba",
        optimizers=torch.optim.AdamW(model.parameters(), lr=1e-3),
        callbacks=[losses] if scoring is None else [losses, scoring],
        device="cpu",
        seed=7,
        progress_bar=False,
        log_to_console=False,
        **{"loggers": [], **arguments},
    )
    trainer.fit()
    trainer.close()
    return trainer, losses


def main(data: str, tokenizer: str, out: str) -> None:
    """Both runs, sharded by FSDP2."""
    torch.set_num_threads(1)
    dist.initialize_dist("cpu")
    scoring = ScoreCheckpoints(
        ["medqa", "medmcqa_letter_2shot"], data, tokenizer, "2ba", 7, 2, LENGTH, f"{out}/results", max_share_of_time=1.0
    )
    for which, callback in (("without", None), ("with", scoring)):
        trainer, losses = train(callback, parallelism_config={"fsdp": FSDP2Config()})
        model = trainer.state.model
        sharded = all(isinstance(value, DTensor) for value in model.parameters())
        weights = {name: value.full_tensor() for name, value in model.named_parameters()} if sharded else {}
        record = {"losses": losses.seen, "weights": weights, "sharded": sharded, "calls": model.scored}
        torch.save(record, Path(out) / f"{which}.{dist.get_global_rank()}.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
