"""Score the checkpoints of a run as they appear, beside the training: ``evaluate.py YAML watch=s3://…``.

What is scored is written under the checkpoint's name, so a watch that is ended and started again goes on where it was.
"""

import csv
import io
import json
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeVar

import torch
from composer.utils import dist

from base import storage
from base.errors import MayPass, UserError
from base.progress import say
from model.checkpoint import list_checkpoints
from recipes.evaluate_model import score_subject
from recipes.evaluation import Asked, Evaluation, Model, find_model
from recipes.subject import load_subject, start
from recipes.together import together

T = TypeVar("T")

TABLE, NOT_SCORED = "{}-over-tokens.csv", "{}-not-scored.jsonl"  # of a run's name
COLUMNS = ("tokens", "batch", "task", "metric", "score", "ci_low", "ci_high", "acc", "acc_norm", "n", "majority")


def watch(config: Evaluation, asked: Asked) -> None:
    """Score each whole checkpoint of ``config.watch`` that has no results yet, oldest first, and wait for more.

    One that is gone before it was read (a run keeps its newest ones), or is damaged, is said, written to
    ``RUN-not-scored.jsonl``, and left. While the store does not answer, the watch waits.

    Returns when nothing new has come for ``watch_idle_seconds``; never, when that is None.

    Raises:
        UserError: ``out`` holds results of other questions.
    """
    device = start()
    watched = _Watched(config, asked)
    last_seen = time.monotonic()
    while True:
        try:
            for model in _of_rank_0(watched.new):
                _score(config, asked, watched, model, device)
                last_seen = time.monotonic()
        except MayPass as error:
            _of_rank_0(partial(say, f"waiting: {error}"))
        idle = dist.all_gather_object(time.monotonic() - last_seen)[0]
        if config.watch_idle_seconds is not None and idle >= config.watch_idle_seconds:
            return
        time.sleep(config.watch_every_seconds)


def _score(config: Evaluation, asked: Asked, watched: "_Watched", model: Model, device: torch.device) -> None:
    try:
        subject = load_subject(model, device)
    except MayPass:
        raise
    except UserError as error:
        _of_rank_0(partial(watched.leave, model.name, str(error)))
        return
    subject.about["asked"] = watched.asked
    score_subject(config, model.name, subject, asked)
    _of_rank_0(watched.write_table)


def _of_rank_0(work: Callable[[], T]) -> T:
    """What ``work`` gives on rank 0, on every rank; what it raises there, on every rank."""
    leads = dist.get_global_rank() == 0
    return dist.all_gather_object(together(lambda: work() if leads else None))[0]


class _Watched:
    """The checkpoints of one folder and their results in another. Used on rank 0 alone."""

    def __init__(self, config: Evaluation, asked: Asked):
        assert config.watch is not None
        self.folder, self.out = config.watch, config.out
        self.run = PurePosixPath(config.watch).name
        self.table, self.not_scored = (storage.join(self.out, name.format(self.run)) for name in (TABLE, NOT_SCORED))
        self.asked = {
            "tasks": [one.protocol.name for one in asked.questions], "files": [one.sha256 for one in asked.questions],
            "limit": config.limit, "precision": config.precision, "beginning_of_text": config.beginning_of_text,
            "texts": {one.name: [one.place, one.limit_bytes] for one in asked.texts},
        }  # fmt: skip

    def new(self) -> list[Model]:
        """Whole checkpoints without results, oldest first."""
        results, left = self._results(), self._not_scored()
        models = [find_model(one.location) for one in list_checkpoints(self.folder) if one.whole]
        for name, record in results.items():
            if record.get("asked") != json.loads(json.dumps(self.asked)):
                raise UserError(
                    f"out: {self.out}/{name}.json has been asked other questions or otherwise; give another out"
                )
        return [model for model in models if model.name not in results and model.name not in left]

    def leave(self, name: str, reason: str) -> None:
        """Say and note that a checkpoint cannot be scored."""
        say(f"{name} cannot be scored: {reason}")
        noted = self._not_scored() | {name: reason}
        lines = "".join(json.dumps({"checkpoint": one, "reason": why}) + "\n" for one, why in noted.items())
        storage.write_bytes(self.not_scored, lines.encode())

    def write_table(self) -> None:
        """One row a checkpoint and protocol, by tokens."""
        rows = []
        for record in sorted(self._results().values(), key=lambda record: record["tokens"]):
            for name, score in record["scores"].items():
                low, high = score["intervals"][score["metric"]]
                of_score = {"score": score[score["metric"]], "ci_low": low, "ci_high": high, "task": name}
                rows.append(record | score | of_score)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        storage.write_bytes(self.table, text.getvalue().encode())

    def _results(self) -> dict[str, dict[str, Any]]:
        """By the checkpoint's name; the folder may hold other models' results and a report as well."""
        ours = re.compile(re.escape(self.run) + r"-ep\d+-ba\d+\.json")
        files = [name for name in storage.list_files(self.out) if ours.fullmatch(name)]
        return {name.removesuffix(".json"): self._read(name) for name in files}

    def _not_scored(self) -> dict[str, str]:
        if not storage.exists(self.not_scored):
            return {}
        lines = storage.read_bytes(self.not_scored).splitlines()
        return {one["checkpoint"]: one["reason"] for one in map(json.loads, lines)}

    def _read(self, name: str) -> Any:
        try:
            return json.loads(storage.read_bytes(storage.join(self.out, name)))
        except ValueError as error:
            raise UserError(f"{storage.join(self.out, name)}: not JSON: {error}; take it away") from error
