"""CPU seconds a question, from texts to scores: ours and lm-eval's in turns, for two shapes and two tasks."""

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from base.progress import say
from benchmarks.referee.handover import our_prompts
from benchmarks.referee.models import Ours, open_ours, write_random
from benchmarks.referee.process import Referee
from eval.official_files import Questions, load_questions
from eval.prompts import Cut, Prepared, prepare
from eval.results import score_of
from eval.scoring import log_likelihoods
from eval.tasks import protocols

BARS = {"medqa_cloze": 5.0, "mmlu_letter_5shot": 4.0}
BATCHES = (1, 8, 16, 32)  # rows there, questions here
Figures = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """With GPT-2's vocabulary one is 7.4M parameters, most of them the vocabulary's, one 124M, GPT-2's own shape.

    Attributes:
        medqa: how many of MedQA's questions are asked.
        subjects: of MMLU, whole: what five shots cost us depends on how many questions share them.
        tried_on: questions of each task by which the batch is chosen.
        rounds: of both sides in turns.
    """

    layers: int
    width: int
    heads: int
    medqa: int
    subjects: tuple[str, ...]
    tried_on: int
    rounds: int


SHAPES = {
    "vocabulary dominates": Shape(4, 128, 4, 128, ("anatomy", "medical_genetics"), 24, 3),
    "body dominates": Shape(12, 768, 12, 24, ("medical_genetics",), 8, 1),  # an hour with the rounds of the other
}


def speed(python: Path, like: Ours, data: str, limit: int | None, folder: Path) -> Figures:
    """By shape and task: ``cpu_seconds_a_question`` of both (median of the rounds), ``ratio`` and its bar, and
    ``ratio_of_products``, to which it comes down when the body is large."""
    keeps = "MALLOC_MMAP_THRESHOLD_" in os.environ
    figures: Figures = {"attention": "sdpa", "malloc_keeps_memory": keeps, "bars": BARS}
    for name, shape in SHAPES.items():
        mmlu = protocols([f"mmlu_{subject}_letter_5shot" for subject in shape.subjects])
        ours = open_ours(write_random(shape.layers, shape.width, shape.heads, like, folder / name.split()[0]))
        tasks = {
            "medqa_cloze": (protocols(["medqa_cloze"]), limit or shape.medqa),
            "mmlu_letter_5shot": (mmlu, limit),
        }
        figures[name] = {"shape": ours.shape}
        with Referee(python, ours.folder, ours.attention, folder) as referee:
            for task, (asked, some) in tasks.items():
                questions = [_whole(load_questions(protocol, data, some), ours) for protocol in asked]
                figures[name][task] = _compare(ours, referee, questions, shape, folder)
                ratio = figures[name][task]["ratio"]
                figures[name][task] |= {"bar": BARS[task], "bar_met": ratio >= BARS[task]}
                say(f"{name}, {task}: {figures[name][task]}")
    return figures


def _compare(ours: Ours, referee: Referee, questions: Sequence[Questions], shape: Shape, folder: Path) -> Figures:
    """``questions`` of one task, or of several subjects."""
    prepared = [prepare(one, ours.encoder, ours.max_seq_len) for one in questions]
    tasks = [our_prompts(one, folder) for one in prepared]
    n = sum(len(one.encoded) for one in prepared)
    longest = max(entry.length for one in prepared for entry in one.encoded)
    # lm-eval holds logits, their logarithms, and what softmax needs, of all positions in fp32.
    row = 3 * 4 * longest * ours.shape["vocabulary"]
    sizes = [size for size in BATCHES if size * row < psutil.virtual_memory().available / 2]

    def here(size: int, documents: int | None = None) -> float:
        return _cpu_seconds(ours, questions, size, documents)

    def there(size: int, documents: int | None = None) -> float:
        return referee.order(tasks, size, documents=documents)["cpu_seconds"]

    tried: dict[str, dict[int, float]] = {}
    for side, run in {"ours": here, "lm_eval": there}.items():
        run(1, 1)  # what a process does once
        tried[side] = {size: run(size, shape.tried_on) for size in sizes}
    best = {side: min(seconds, key=lambda size: seconds[size]) for side, seconds in tried.items()}
    rounds: dict[str, list[float]] = {"ours": [], "lm_eval": []}
    for turn in range(shape.rounds):
        for side in ("ours", "lm_eval") if turn % 2 == 0 else ("lm_eval", "ours"):
            rounds[side].append((here if side == "ours" else there)(best[side]))
    median = {side: statistics.median(seconds) / n for side, seconds in rounds.items()}
    return {
        "questions": n,
        "tasks": [one.name for one in prepared],
        "longest_tokens": longest,
        "batch": best,
        "cpu_seconds_of_batches_tried": {side: _rounded(seconds.values()) for side, seconds in tried.items()},
        "batches_tried": sizes,
        "cpu_seconds": {side: _rounded(seconds) for side, seconds in rounds.items()},
        "cpu_seconds_a_question": {side: round(seconds, 5) for side, seconds in median.items()},
        "ratio": round(median["lm_eval"] / median["ours"], 2),
        "ratio_of_products": round(_ratio_of_products(prepared, ours), 2),
    }


def _ratio_of_products(prepared: Sequence[Prepared], ours: Ours) -> float:
    """What ``ratio`` would be if nothing but the products with weights cost time: lm-eval reads each option that has
    more than one token with its whole question and projects every token; we read what they share once, and project
    the tokens that predict a scored one."""
    projection = ours.shape["vocabulary"] * ours.shape["width"]
    body = ours.shape["parameters"] - projection - ours.max_seq_len * ours.shape["width"]
    here = there = 0
    for one in prepared:
        shared = len(os.path.commonprefix([question.given[:-1] for question in one.encoded]))  # noqa: RUF071
        here += shared * body
        for question in one.encoded:
            rows = {option[:-1] for option in question.options}  # two that are equal are read once by lm-eval as well
            there += sum(len(question.given) + len(row) for row in rows) * (body + projection)
            after = sum(len(option) - 1 for option in question.options)
            here += (len(question.given) - shared + after) * body + (1 + after) * projection
    return there / here


def _cpu_seconds(ours: Ours, questions: Sequence[Questions], batch: int, documents: int | None) -> float:
    """Of the process, from the texts of the questions to their scores."""
    questions = [replace(one, items=one.items[:documents], refused=()) for one in questions]
    start = time.process_time()
    for one in questions:
        prepared = prepare(one, ours.encoder, ours.max_seq_len)
        score_of(prepared, log_likelihoods(prepared.encoded, ours.scorer, batch))
    return time.process_time() - start


def _whole(questions: Questions, ours: Ours) -> Questions:
    """Without those that do not fit with all their shots: lm-eval would be given fewer tokens, or cut them."""
    prepared = prepare(questions, ours.encoder, ours.max_seq_len)
    fit = {one.id for one in prepared.encoded if one.cut == Cut()}
    return replace(questions, items=tuple(item for item in questions.items if item.id in fit), refused=())


def _rounded(seconds: Any) -> list[float]:
    return [round(one, 3) for one in seconds]
