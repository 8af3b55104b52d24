"""Whether lm-eval gives each option of each question the log-likelihood that we give it, and so the same accuracies."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any

from base.errors import UserError
from base.progress import say
from benchmarks.referee.handover import METRICS, our_prompts, own_template, prompts_of
from benchmarks.referee.models import Ours
from benchmarks.referee.process import Referee
from eval.all_ranks import score_on_all_ranks
from eval.official_files import find_files, load_questions
from eval.prompts import prepare
from eval.results import ItemScore
from eval.task import Protocol
from eval.tasks import TASKS, protocols

BAR = 1e-3  # of an option's log-likelihood, in nats
REQUIRED = ("acc", "acc_norm")  # of which no question may be right on one side only
BATCH = 16  # questions, here
ROWS = 8  # of a forward pass, there

Figures = dict[str, Any]


def all_protocols(data: str) -> tuple[list[Protocol], list[str]]:
    """Every task whose files are below ``data`` in each of its forms, MMLU's letters with five shots too; and the names
    of the tasks without files."""
    names: list[str] = []
    missing: list[str] = []
    for name, task in TASKS.items():
        try:
            find_files(task, task.scored, data)
        except UserError:
            missing.append(name)
            continue
        names += [f"{name}_{form}" for form in task.forms]
        names += [f"{name}_letter_5shot"] if name.startswith("mmlu_") else []
    return protocols(names), missing


def agreement(
    ours: Ours, referee: Referee, asked: Sequence[Protocol], data: str, limit: int | None, folder: Path
) -> Figures:
    """By protocol ``our_prompts``, as scored there and here, and ``own_template`` where lm-eval has such a task, whose
    prompts it then writes itself: what :func:`compare` says, ``left_out`` by reason, and how many are ``missing``."""
    figures: Figures = {}
    for protocol in asked:
        without_question = protocol.form.answers == "texts"
        questions = load_questions(protocol, data, limit)
        prepared = prepare(questions, ours.encoder, ours.max_seq_len, without_question=without_question)
        score, items = score_on_all_ranks(prepared, ours.scorer, BATCH)
        counted = ("n", "scored", "bad_rows", "too_long", "fewer_shots", "fewer_passages")
        of_protocol: Figures = {name: getattr(score, name) for name in counted}
        ways = {"our_prompts": our_prompts(prepared, folder), "own_template": own_template(prepared, data, folder)}
        for way, task in ways.items():
            if task is None:
                continue
            out = folder / f"{task['name']}.scored.jsonl"
            answer = referee.order([task], ROWS, out)
            theirs = [json.loads(line) for line in out.read_text().splitlines()]
            found = compare(items, theirs, prompts_of(prepared))
            found["left_out"] = dict(Counter(answer["left_out"].values()))
            found["missing"] = score.scored - found["n"] - len(answer["left_out"])
            found["met"] &= found["missing"] == 0
            of_protocol[way] = found
            say(f"{ours.folder.name}, {protocol.name}, {way}: {json.dumps(found)}")
        figures[protocol.name] = of_protocol
    return figures


def compare(ours: Sequence[ItemScore], theirs: Sequence[Mapping[str, Any]], prompts: Mapping[str, str]) -> Figures:
    """What lm-eval has scored against the same questions of ours.

    Returns:
        ``n`` questions; ``same_prompts`` of them, to the character; ``largest_difference`` of a log-likelihood in nats,
        after the question and without it; ``ours`` and ``lm_eval``: the accuracies over these questions;
        ``other_verdicts``: by accuracy, questions that are right on one side only, and ``other_by_at_most``, how far
        lm-eval holds its answer above ours there: less than the rounding of fp32, those are ties;
        ``met``: the bar, the same prompts, and no other verdict of acc and acc_norm.
    """
    of_id = {item.id: item for item in ours}
    pairs = [(of_id[line["id"]], line) for line in theirs]
    metrics = [name for name in METRICS if pairs and name in pairs[0][1]["metrics"]]
    n, same = len(pairs), sum(prompts[line["id"]] == line["prompt"] for _, line in pairs)
    with_question = _largest(pairs, "log_likelihoods")
    alone = _largest([pair for pair in pairs if pair[1]["without_question"]], "without_question")
    verdicts = {
        name: [(item.is_right(METRICS[name]), line["metrics"][name] == 1.0) for item, line in pairs] for name in metrics
    }
    apart = {
        name: [_margin(name, *pair) for pair, (here, there) in zip(pairs, both, strict=True) if here != there]
        for name, both in verdicts.items()
    }
    return {
        "n": n,
        "same_prompts": same,
        "largest_difference": with_question,
        "largest_difference_without_question": alone,
        "ours": {name: sum(here for here, _ in both) / n for name, both in verdicts.items()},
        "lm_eval": {name: sum(there for _, there in both) / n for name, both in verdicts.items()},
        "other_verdicts": {name: len(margins) for name, margins in apart.items()},
        "other_by_at_most": max((margin for margins in apart.values() for margin in margins), default=None),
        "met": n > 0
        and same == n
        and max(with_question or 0, alone or 0) <= BAR
        and not any(apart.get(name) for name in REQUIRED),
    }


def _margin(metric: str, item: ItemScore, line: Mapping[str, Any]) -> float:
    """How much more lm-eval's scores of the options give its answer than ours."""
    assert item.predictions is not None and item.characters is not None and item.bytes is not None
    divisors = {"acc_norm": item.characters, "acc_bytes": item.bytes}.get(metric, [1] * len(item.characters))
    less = line["without_question"] if metric == "acc_mutual_info" else [0.0] * len(divisors)
    sums = zip(line["log_likelihoods"], less, divisors, strict=True)
    scores = [(value - alone) / divisor for value, alone, divisor in sums]
    return max(scores) - scores[item.predictions[METRICS[metric]]]


def _largest(pairs: Sequence[tuple[ItemScore, Mapping[str, Any]]], name: str) -> float | None:
    if not pairs:
        return None
    differences = [abs(a - b) for item, line in pairs for a, b in zip(getattr(item, name), line[name], strict=True)]
    return max(differences) if all(map(isfinite, differences)) else inf
