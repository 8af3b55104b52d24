"""The three ways of `python -m benchmarks training`, in turns in one process. See benchmarks/training.py."""

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.core import DataSpec
from composer.utils import dist, get_device
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

from base.configuration import load_configuration
from base.progress import say
from benchmarks.training import BARS
from model.composer_gpt import collate, token_count
from model.huggingface import config_to_huggingface, weights_to_huggingface
from recipes import build
from recipes.kernels import compile_model
from recipes.schema import CosineWithWarmup, Training
from recipes.times import parse_time

VOCABULARY, LENGTH, BATCH = 28_896, 512, 8
SHAPE = ["model.d_model=256", "model.n_heads=4", "model.n_layers=6", "model.scale_attn_by_inverse_layer_idx=false"]
BATCHES = [f"max_seq_len={LENGTH}", f"global_train_batch_size={BATCH}", f"device_train_microbatch_size={BATCH}"]
COMPILED = ["compile_config={}"]
WITHOUT = ["callbacks.score_checkpoints=null", "save_folder=null", "autoresume=false", "progress_bar=false",
           "callbacks.loader_wait=null", "callbacks.step_time=null"]  # fmt: skip
DROPOUTS = (0.1, 0.0)

Now = Callable[[], float]  # the seconds that count: see benchmarks/training.py
Run = Callable[[int], list[float]]  # train for so many steps → seconds of each
Way = tuple[torch.nn.Module, Callable[[Any], torch.Tensor]]  # the module, and batch → loss


def compare(dropout: float, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """The three ways in turns, with one dropout."""
    now = time.process_time if threads == 1 else time.perf_counter
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        probabilities = [f"model.{name}_pdrop={dropout}" for name in ("attn", "resid", "embd")]
        overrides = [
            *SHAPE,
            *BATCHES,
            *COMPILED,
            *WITHOUT,
            *probabilities,
            f"run_folder={folder}",
            "max_duration=1000ba",
            "scheduler.t_max=1000ba",
        ]
        config = load_configuration("yamls/quickstart.yaml", overrides, Training)
        generator = torch.Generator().manual_seed(5)
        rows = torch.randint(VOCABULARY, (rounds * steps * BATCH, LENGTH), generator=generator).numpy()
        samples = [{"tokens": row.astype("uint16")} for row in rows]
        losses: dict[str, list[float]] = {"trainer": [], "bare_loop": [], "transformers": []}
        ways: dict[str, Run] = {
            "trainer": _trainer(config, samples, losses["trainer"], now),
            "bare_loop": _loop(config, samples, losses["bare_loop"], now, _our_loss(config)),
            "transformers": _loop(config, samples, losses["transformers"], now, _loss_of_transformers(config)),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds):
            for name in ways if turn % 2 == 0 else reversed(ways):
                of_steps = ways[name](steps)
                say(
                    f"threads {threads}, dropout {dropout}, turn {turn}, {name}: "
                    + " ".join(f"{second:.3f}" for second in of_steps)
                )
                if turn > 0:
                    seconds[name] += of_steps[1:]
    rates = {name: BATCH * LENGTH / min(of_steps) for name, of_steps in seconds.items()}
    ratios = {pair: rates[pair.split("/")[0]] / rates[pair.split("/")[1]] for pair in BARS}
    return {
        "seconds": "of CPU" if threads == 1 else "of the clock",
        "tokens_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "ratios": {pair: round(ratio, 3) for pair, ratio in ratios.items()},
        "bars_met": all(ratios[pair] >= bar for pair, bar in BARS.items()),
        "seconds_a_step_median": {name: round(statistics.median(all), 3) for name, all in seconds.items()},
        "loss_first": {name: round(of_steps[0], 5) for name, of_steps in losses.items()},
        "loss_last": {name: round(of_steps[-1], 5) for name, of_steps in losses.items()},
    }


class Clock(Callback):
    """The time at the start of each batch: between two lies all that a step costs, loader and loggers included."""

    def __init__(self, losses: list[float], now: Now) -> None:
        self.now = now
        self.starts: list[float] = []
        self.losses = losses

    def batch_start(self, state: State, logger: Logger) -> None:
        self.starts.append(self.now())

    def batch_end(self, state: State, logger: Logger) -> None:
        self.losses.append(float(state.loss))

    def fit_end(self, state: State, logger: Logger) -> None:
        self.starts.append(self.now())


def _trainer(config: Training, samples: list[Any], losses: list[float], now: Now) -> Run:
    dist.initialize_dist(get_device(None))
    shape = config.gpt_config(VOCABULARY)
    model = build.build_model(config, shape)
    clock = Clock(losses, now)
    data = DataSpec(dataloader=_loader(samples), get_num_tokens_in_batch=token_count)
    callbacks = [clock, *build.build_callbacks(config, Path())]
    trainer = build.build_trainer(
        config, model, data, callbacks, build.build_loggers(config, None, run_id="", goes_on=False)
    )

    def run(steps: int) -> list[float]:
        clock.starts.clear()
        trainer.fit(duration=f"{steps}ba")
        return [after - before for before, after in pairwise(clock.starts)]

    return run


def _our_loss(config: Training) -> Way:
    model = build.build_model(config, config.gpt_config(VOCABULARY))
    if config.compile_config is not None:
        compile_model(model, config.compile_config)
    return model, lambda batch: model(batch)


def _loss_of_transformers(config: Training) -> Way:
    ours, _ = _our_loss(config)
    shape = GPT2Config(**config_to_huggingface(ours.config, VOCABULARY - 1), attn_implementation="sdpa")
    model = GPT2LMHeadModel(shape)
    model.load_state_dict(weights_to_huggingface(ours.gpt.state_dict()), strict=False)
    model.tie_weights()
    return model, lambda batch: model(input_ids=batch["input_ids"], labels=batch["input_ids"], use_cache=False).loss


def _loop(config: Training, samples: list[Any], losses: list[float], now: Now, way: Way) -> Run:
    model, loss_of = way
    model.train()
    optimizer = build.build_optimizer(config.optimizer, model)
    assert isinstance(config.scheduler, CosineWithWarmup)
    warmup, total = parse_time(config.scheduler.t_warmup)[0], parse_time(config.max_duration)[0]
    end = config.scheduler.alpha_f

    def multiplier(batch: int) -> float:
        done = max(batch - 1, 0)  # Composer steps its schedulers before it counts the batch: two batches get the first
        if done < warmup:
            return done / warmup
        return end + (1 - end) * (1 + math.cos(math.pi * (done - warmup) / (total - warmup))) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
    batches: Iterator[Any] = iter(_loader(samples))

    def run(steps: int) -> list[float]:
        starts = [now()]
        for _ in range(steps):
            loss = loss_of(next(batches))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.item())
            starts.append(now())
        return [after - before for before, after in pairwise(starts)]

    return run


def _loader(samples: list[Any]) -> DataLoader[Any]:
    return DataLoader(samples, batch_size=BATCH, collate_fn=collate)


if __name__ == "__main__":
    threads, rounds, steps = map(int, sys.argv[1:])
    print(json.dumps({f"dropout_{value}": compare(value, threads, rounds, steps) for value in DROPOUTS}))
