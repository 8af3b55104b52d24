"""Score the checkpoints of a run as they appear, beside the training: ``evaluate.py YAML watch=s3://…``.

What is scored is written under the checkpoint's name, so a watch that is ended and started again goes on where it was.
"""

import csv
import io
import json
import time
from functools import partial
from typing import Any

import torch
from composer.utils import dist

from base import storage
from base.errors import MayPass, UserError
from base.progress import say
from eval.bits_per_byte import BrokenModel
from model.checkpoint import NAME, list_checkpoints
from recipes import parallel
from recipes.evaluate_model import score_subject
from recipes.evaluation import Asked, Evaluation, Model, name_of
from recipes.subject import load_subject, start
from recipes.together import of_rank_0

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
            models = of_rank_0(watched.new)
            of_rank_0(watched.write_table)  # an earlier watch may have ended between results and table
            for model in models:
                _score(config, asked, watched, model, device)
                last_seen = time.monotonic()
        except MayPass as error:
            of_rank_0(partial(say, f"waiting: {error}"))
        idle = dist.all_gather_object(time.monotonic() - last_seen)[0]
        if config.watch_idle_seconds is not None and idle >= config.watch_idle_seconds:
            parallel.leave()
            return
        time.sleep(config.watch_every_seconds)


def _score(config: Evaluation, asked: Asked, watched: "_Watched", model: Model, device: torch.device) -> None:
    try:
        subject = load_subject(model, device, config.tokenizer, config.max_seq_len)
    except MayPass:
        raise
    except UserError as error:
        of_rank_0(partial(watched.leave, model.name, str(error)))
        return
    subject.about["asked"] = watched.asked
    try:
        score_subject(config, model.name, subject, asked)
    except BrokenModel as error:
        of_rank_0(partial(watched.leave, model.name, str(error)))
        return
    of_rank_0(watched.write_table)


class _Watched:
    """The checkpoints of one folder and their results in another. Used on rank 0 alone."""

    def __init__(self, config: Evaluation, asked: Asked):
        assert config.watch is not None
        self.folder, self.out = config.watch, config.out
        self.run = name_of(storage.join(self.folder, "ep0-ba0")).removesuffix("-ep0-ba0")
        self.table, self.not_scored = (storage.join(self.out, name.format(self.run)) for name in (TABLE, NOT_SCORED))
        self.asked = {
            "tasks": [one.protocol.name for one in asked.questions], "files": [one.sha256 for one in asked.questions],
            "tokenizer": config.tokenizer, "max_seq_len": config.max_seq_len, "limit": config.limit,
            "precision": config.precision, "beginning_of_text": config.beginning_of_text, "pmi": config.pmi,
            "texts": {one.name: [one.place, one.limit_bytes] for one in asked.texts},
        }  # fmt: skip
        # Hundreds of results may lie in a bucket, and the folder is looked at every minute.
        self._known: dict[str, dict[str, Any]] = {}
        self._written: str | None = None  # the table

    def new(self) -> list[Model]:
        """Whole checkpoints without results, oldest first."""
        results, left = self._results(), self._not_scored()
        whole = [one.location for one in list_checkpoints(self.folder) if one.whole]
        models = [Model(location, None, name_of(location)) for location in whole]
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
        if text.getvalue() != self._written:
            storage.write_bytes(self.table, text.getvalue().encode())
            self._written = text.getvalue()

    def _results(self) -> dict[str, dict[str, Any]]:
        """By the checkpoint's name. Results of other models may lie there too, to stand beside these in a report."""
        names = [name.removesuffix(".json") for name in storage.list_files(self.out) if name.endswith(".json")]
        mine = [name for name in names if NAME.fullmatch(name.removeprefix(f"{self.run}-"))]
        self._known = {name: self._known.get(name) or self._read(f"{name}.json") for name in mine}
        return self._known

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
