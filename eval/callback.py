"""Scores on question-answering files while a model trains, without changing the training."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from composer.core import Callback, Event, State, Time, TimeUnit
from composer.core.precision import get_precision_context
from composer.loggers import Logger
from composer.utils import dist
from composer.utils.misc import create_interval_scheduler
from torch.distributed.fsdp import FSDPModule

from base.errors import UserError
from base.progress import say
from eval.prompts import load_tokenizer, prepare
from eval.results import ItemScore, Score, score_of, write_results
from eval.scoring import option_log_likelihoods
from eval.task import load_questions
from eval.tasks import TASKS

UNITS = (TimeUnit.BATCH, TimeUnit.TOKEN, TimeUnit.SAMPLE, TimeUnit.EPOCH)


class ScoreCheckpoints(Callback):
    """Scores the model at an interval and once at the end of training; never before the first batch.

    The model must take ``{"input_ids": int64 [B, T], "positions": int64 [B, P]}`` and return logits [B, P, V] at these
    positions. All ranks take part, each scores a share of the questions, and each calls the model equally often. Only
    the forward pass is used: gradients, random states, modes and the sharding of the weights are left as they were.

    Logged at the number of batches done: ``eval/TASK/{acc,acc_norm,n,majority,ci_low,ci_high}`` (the interval is that
    of acc), ``eval/seconds`` and ``eval/share_of_time`` (of the time since ``fit`` began).

    Args:
        tasks: names in ``eval.tasks.TASKS``.
        data: the folder with the official files.
        tokenizer: a folder with ``tokenizer.json``.
        interval: such as ``500ba``, ``1000000000tok``, ``100000sp`` or ``1ep``.
        limit: questions of each task, the first in the order of a hash of their ids (``load_questions``); None: all.
        device_eval_batch_size: rows a forward pass; a question has one row for each option.
        max_seq_len: tokens that the model reads. Longer questions are not cut, they count as wrong.
        results_folder: where to write ``epE-baB.json`` and ``epE-baB.items.jsonl`` (local or s3://); None writes none.
        beginning_of_text: whether ``<|endoftext|>`` stands before each prompt.

    Attributes:
        latest: the last scores, by task; empty before the first.

    Raises:
        UserError: at construction, before anything costly: unknown task, no file, no tokenizer, a wrong interval.
    """

    def __init__(
        self,
        tasks: list[str],
        data: str,
        tokenizer: str,
        interval: str,
        limit: int | None,
        device_eval_batch_size: int,
        max_seq_len: int,
        results_folder: str | None = None,
        beginning_of_text: bool = False,
    ):
        if not tasks:
            raise UserError(f"tasks: names none; there are {', '.join(TASKS)}")
        for name in tasks:
            if name not in TASKS:
                raise UserError(f"tasks: there is no task {name}; there are {', '.join(TASKS)}")
        if device_eval_batch_size < 1:
            raise UserError(f"device_eval_batch_size: must be at least 1 row; it is {device_eval_batch_size}")
        self._is_due = create_interval_scheduler(_interval(interval), include_end_of_training=False)
        encoder = load_tokenizer(tokenizer)
        self._prepared = {
            name: prepare(load_questions(TASKS[name], data, limit), encoder, max_seq_len, beginning_of_text)
            for name in tasks
        }
        self._batch_size = device_eval_batch_size
        self._results_folder = results_folder
        self._last_batch = 0  # nothing is scored before the first batch
        self._began = time.monotonic()
        self._seconds = 0.0
        self.latest: dict[str, Score] = {}
        if dist.get_global_rank() == 0:
            for prepared in self._prepared.values():
                say(prepared.describe())

    def fit_start(self, state: State, logger: Logger) -> None:
        """Start the clock that the share of time is taken of."""
        self._began, self._seconds = time.monotonic(), 0.0

    # Not BATCH_END: callbacks measure speed there, and what runs before them would be taken for training.
    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Score when the interval (in batches, tokens or samples) has passed."""
        if self._is_due(state, Event.BATCH_CHECKPOINT):
            self._score(state, logger)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """Score when the interval (in epochs) has passed."""
        if self._is_due(state, Event.EPOCH_CHECKPOINT):
            self._score(state, logger)

    def fit_end(self, state: State, logger: Logger) -> None:
        """Score the model at the end, whatever the interval."""
        self._score(state, logger)

    def _score(self, state: State, logger: Logger) -> None:
        batch = state.timestamp.batch.value
        if batch == self._last_batch:
            return
        self._last_batch = batch
        start = time.monotonic()
        with _training_undisturbed(state.model):
            scores, items = self._scores(state)
        self.latest = scores
        seconds = time.monotonic() - start
        self._seconds += seconds
        for name, score in scores.items():
            logger.log_metrics(
                {
                    f"eval/{name}/acc": score.acc,
                    f"eval/{name}/acc_norm": score.acc_norm,
                    f"eval/{name}/n": score.n,
                    f"eval/{name}/majority": score.majority,
                    f"eval/{name}/ci_low": score.ci95[0],
                    f"eval/{name}/ci_high": score.ci95[1],
                }
            )
        share = self._seconds / (time.monotonic() - self._began)
        logger.log_metrics({"eval/seconds": seconds, "eval/share_of_time": share})
        if self._results_folder is not None and dist.get_global_rank() == 0:
            epoch, tokens = state.timestamp.epoch.value, state.timestamp.token.value
            about = {"run_name": state.run_name, "epoch": epoch, "batch": batch, "tokens": tokens, "seconds": seconds}
            write_results(self._results_folder, f"ep{epoch}-ba{batch}", scores, items, about)

    def _scores(self, state: State) -> tuple[dict[str, Score], list[ItemScore]]:
        def logits_at(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
            return state.model(state.device.batch_to_device({"input_ids": input_ids, "positions": positions}))

        scores: dict[str, Score] = {}
        items: list[ItemScore] = []
        for name, prepared in self._prepared.items():
            with get_precision_context(state.precision, state.precision_config, fp8_autocast_enabled=False):
                mine = option_log_likelihoods(
                    prepared.encoded, logits_at, self._batch_size, dist.get_global_rank(), dist.get_world_size()
                )
            found = {id: values for part in dist.all_gather_object(mine) for id, values in part.items()}
            scores[name], task_items = score_of(prepared, found)
            items += task_items
        return scores, items


def _interval(text: str) -> str:
    try:
        interval = Time.from_timestring(text)
    except (ValueError, TypeError, AssertionError):
        raise UserError(f"interval: {text!r} is no interval; write for example 500ba or 1000000000tok") from None
    if interval.unit not in UNITS or interval.value < 1:
        units = ", ".join(unit.value for unit in UNITS)
        raise UserError(f"interval: {text!r} must be at least 1, in one of {units}")
    return text


@contextmanager
def _training_undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards modes, random states and the sharding of the weights are as they were."""
    modes = {module: module.training for module in model.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices=devices):
            model.eval()
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, mode in modes.items():
            module.training = mode
        reshard(model)


def reshard(model: torch.nn.Module) -> None:
    """Give back gathered weights: FSDP2 keeps the root's until a backward pass, and after an evaluation none comes."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
