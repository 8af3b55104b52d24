"""A run on two ranks whose second has a slow loader: ``slow_rank.py OUT``, started by a launcher."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from composer import Trainer
from composer.loggers import InMemoryLogger
from composer.utils import dist
from torch.utils.data import Dataset

from model.composer_gpt import ComposerGPT
from model.config import GPTConfig
from model.gpt import GPT
from recipes.batch_size import BatchSizes
from recipes.callbacks.loader_wait import LoaderWait
from recipes.callbacks.scheduled_gc import ScheduledGC
from recipes.callbacks.step_time import StepTime
from recipes.train_loader import TrainLoader

SECONDS = 0.08


class Rows(Dataset[dict[str, torch.Tensor]]):
    """40 rows; on rank 1 each takes its time."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        time.sleep(SECONDS * dist.get_global_rank())
        return {"input_ids": torch.full((8,), index)}


def main(out: str) -> None:
    dist.initialize_dist("cpu")
    rows, logger = Rows(), InMemoryLogger()
    shape = GPTConfig(vocab_size=64, max_seq_len=8, d_model=16, n_heads=2, n_layers=1)
    model = ComposerGPT(GPT(shape), seed=1)
    trainer = Trainer(
        model=model,
        train_dataloader=TrainLoader(BatchSizes(2), 40, rows, batch_size=1, sampler=dist.get_sampler(rows)),
        optimizers=torch.optim.AdamW(model.parameters()),
        max_duration="12ba",
        callbacks=[LoaderWait(4), StepTime(4), ScheduledGC(6)],
        loggers=[logger],
        device="cpu",
        progress_bar=False,
    )
    trainer.fit()
    trainer.close()
    seen: dict[str, Any] = {
        name: [(stamp.batch.value, float(value)) for stamp, value in values]
        for name, values in logger.data.items()
        if name.startswith("time/")
    }
    Path(out, f"{dist.get_global_rank()}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
