"""Result files as scoring leaves them, from right and wrong answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eval.results import ItemScore, Score, write_results
from eval.statistics import wilson_interval
from eval.task import ACC, ACC_BYTES, ACC_NORM, ACC_TOKEN

METRICS = (ACC, ACC_NORM, ACC_BYTES, ACC_TOKEN)


def item(task: str, id: str, right: bool | None, gold: int | None = 0, **more: Any) -> ItemScore:
    """``right``: by every accuracy; None: not scored."""
    position = None if right is None or gold is None else gold if right else gold + 1
    made = ItemScore(
        task=task, id=id, prompt_hash="hash", subject=None, log_likelihoods=None, without_question=None,
        characters=None, bytes=None, tokens=None,
        predictions=None if position is None else dict.fromkeys(METRICS, position),
        prediction=position, gold=gold, shots_left_out=0, passages_left_out=0, reason=None,
    )  # fmt: skip
    return replace(made, **more)


def score(task: str, items: Sequence[ItemScore], metric: str = ACC_NORM, **more: Any) -> Score:
    """Of items of one protocol; what statistics here do not read is empty."""
    n = len(items)
    correct = {one: sum(item.is_right(one) for item in items) for one in METRICS}
    made = Score(
        task=task, form="cloze", shots=0, version=1, metric=metric,
        acc=correct[ACC] / n, acc_norm=correct[ACC_NORM] / n, acc_bytes=correct[ACC_BYTES] / n,
        acc_token=correct[ACC_TOKEN] / n, acc_pmi=None, ci95=wilson_interval(correct[ACC], n),
        intervals={one: wilson_interval(right, n) for one, right in correct.items()}, n=n,
        scored=sum(item.predictions is not None for item in items), majority=0.0, macro_f1=None, ece=None, brier=None,
        gold=[], predicted={}, subjects={}, bad_rows=0, too_long=0, fewer_shots=0, fewer_passages=0, unscorable=[],
        files={f"{task}/test.jsonl": "sha"}, release="", rows_in_file=n, question_hash="asked", prompt_hash="hash",
        notes="",
    )  # fmt: skip
    return replace(made, **more)


def scores(items: Sequence[ItemScore], **more: Mapping[str, Any]) -> dict[str, Score]:
    """By protocol; ``more`` has what differs, by protocol."""
    tasks = list(dict.fromkeys(one.task for one in items))
    return {task: score(task, [one for one in items if one.task == task], **more.get(task, {})) for task in tasks}


def write(folder: Any, name: str, items: list[ItemScore], **more: Mapping[str, Any]) -> str:
    """Write both files; returns the place of the first."""
    write_results(str(folder), name, scores(items, **more), items, {})
    return f"{folder}/{name}.json"
