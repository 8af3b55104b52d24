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
from eval.all_ranks import score_on_all_ranks
from eval.averages import averages
from eval.gpt_scorer import GPTScorer
from eval.official_files import load_questions
from eval.prompts import FastEncoder, load_tokenizer, prepare
from eval.results import ItemScore, Score, write_results
from eval.task import METRICS
from eval.tasks import GROUPS, protocols

UNITS = (TimeUnit.BATCH, TimeUnit.TOKEN, TimeUnit.SAMPLE, TimeUnit.EPOCH)


class ScoreCheckpoints(Callback):
    """Scores the model at an interval and once at the end of training; never before the first batch.

    The model must take a batch as :class:`model.composer_gpt.ComposerGPT` does for scoring. All ranks take part, each
    scores a share of the questions, and each calls the model equally often. Only the forward pass is used, in the
    precision of the training: gradients, random states, modes and the sharding of the weights are left as they were.

    Logged at the number of batches done, for each protocol: ``eval/NAME/{acc,acc_norm,acc_bytes,acc_token}``,
    ``ci_low`` and ``ci_high`` (the interval of acc), ``n``, ``majority``, ``brier``, ``ece``, and ``macro_f1`` where it
    means something; ``eval/GROUP/{macro,micro}``; ``eval/seconds``, ``eval/share_of_time`` (of the time since ``fit``
    began) and ``eval/left_out`` (how often the ceiling has left a scoring out).

    Args:
        tasks: names of protocols, see ``eval.tasks.protocols``.
        data: the folder with the official files.
        tokenizer: a folder with ``tokenizer.json``.
        interval: such as ``500ba``, ``1000000000tok``, ``100000sp`` or ``1ep``.
        limit: questions of each task, the first in the order of a hash of their ids (``load_questions``); None: all.
        device_eval_batch_size: questions of a forward pass.
        max_seq_len: tokens that the model reads.
        results_folder: where to write ``epE-baB.json`` and ``epE-baB.items.jsonl`` (local or s3://); None writes none.
        beginning_of_text: whether ``<|endoftext|>`` stands before each prompt.
        max_share_of_time: scoring that would bring its share of the time since ``fit`` began above this is left out,
            and said so; what it will take is taken from the last time. The first is never left out, nor is the end.

    Attributes:
        latest: the last scores, by protocol; empty before the first.

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
        max_share_of_time: float = 0.05,
    ):
        if not tasks:
            raise UserError("tasks: names none")
        if device_eval_batch_size < 1:
            raise UserError(f"device_eval_batch_size: must be at least 1 question; it is {device_eval_batch_size}")
        self._is_due = create_interval_scheduler(_interval(interval), include_end_of_training=False)
        encoder = FastEncoder(load_tokenizer(tokenizer))
        self._prepared = [
            prepare(load_questions(protocol, data, limit), encoder, max_seq_len, beginning_of_text)
            for protocol in protocols(tasks)
        ]
        self._batch_size = device_eval_batch_size
        self._results_folder = results_folder
        self._asked = {"limit": limit, "data": data, "beginning_of_text": beginning_of_text}
        self._max_share = max_share_of_time
        self._last_batch = 0  # nothing is scored before the first batch
        self._began = time.monotonic()
        self._seconds = self._last_seconds = 0.0
        self._left_out = 0
        self.latest: dict[str, Score] = {}
        if dist.get_global_rank() == 0:
            for prepared in self._prepared:
                say(prepared.describe())

    def fit_start(self, state: State, logger: Logger) -> None:
        """Start the clock that the share of time is taken of."""
        self._began, self._seconds = time.monotonic(), 0.0

    # Not BATCH_END: callbacks measure speed there, and what runs before them would be taken for training.
    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Score when the interval (in batches, tokens or samples) has passed."""
        if self._is_due(state, Event.BATCH_CHECKPOINT) and not self._costs_too_much(logger):
            self._score(state, logger)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        """Score when the interval (in epochs) has passed."""
        if self._is_due(state, Event.EPOCH_CHECKPOINT) and not self._costs_too_much(logger):
            self._score(state, logger)

    def fit_end(self, state: State, logger: Logger) -> None:
        """Score the model at the end, whatever the interval."""
        self._score(state, logger)

    def _costs_too_much(self, logger: Logger) -> bool:
        """Whether to leave this scoring out, as rank 0's clock has it."""
        share = (self._seconds + self._last_seconds) / (time.monotonic() - self._began + self._last_seconds)
        leave_out = bool(dist.all_gather_object(self._last_seconds > 0 and share > self._max_share)[0])
        if leave_out:
            self._left_out += 1
            logger.log_metrics({"eval/left_out": self._left_out})
        return leave_out

    def _score(self, state: State, logger: Logger) -> None:
        batch = state.timestamp.batch.value
        if batch == self._last_batch:
            return
        self._last_batch = batch
        start = time.monotonic()
        with _training_undisturbed(state.model):
            scores, items = self._scores(state)
        self.latest = scores
        self._last_seconds = seconds = time.monotonic() - start
        self._seconds += seconds
        for name, score in scores.items():
            logger.log_metrics({f"eval/{name}/{key}": value for key, value in _logged(score).items()})
        for group, average in averages(scores, GROUPS).items():
            logger.log_metrics({f"eval/{group}/macro": average.macro, f"eval/{group}/micro": average.micro})
        share = self._seconds / (time.monotonic() - self._began)
        logger.log_metrics({"eval/seconds": seconds, "eval/share_of_time": share, "eval/left_out": self._left_out})
        if self._results_folder is not None and dist.get_global_rank() == 0:
            epoch, tokens = state.timestamp.epoch.value, state.timestamp.token.value
            about = {"run_name": state.run_name, "epoch": epoch, "batch": batch, "tokens": tokens, "seconds": seconds}
            write_results(self._results_folder, f"ep{epoch}-ba{batch}", scores, items, self._asked | about)

    def _scores(self, state: State) -> tuple[dict[str, Score], list[ItemScore]]:
        model = GPTScorer(state.model, next(state.model.parameters()).device)
        scores: dict[str, Score] = {}
        items: list[ItemScore] = []
        for prepared in self._prepared:
            with get_precision_context(state.precision, state.precision_config, fp8_autocast_enabled=False):
                scores[prepared.name], task_items = score_on_all_ranks(prepared, model, self._batch_size)
            items += task_items
        return scores, items


def _logged(score: Score) -> dict[str, float]:
    numbers = {metric: getattr(score, metric) for metric in METRICS}
    numbers |= {"n": score.n, "majority": score.majority, "ci_low": score.ci95[0], "ci_high": score.ci95[1]}
    numbers |= {"macro_f1": score.macro_f1, "brier": score.brier, "ece": score.ece}
    return {name: value for name, value in numbers.items() if value is not None}


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
