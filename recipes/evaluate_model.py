"""Score one model on every rank's share of the questions; rank 0 writes the results and prints them."""

import json
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from composer.utils import dist

from base import storage
from base.progress import progress, say
from eval.all_ranks import calls, likelihoods_on_all_ranks
from eval.averages import averages
from eval.bits_per_byte import DocumentScore, TextScore, score_texts
from eval.official_files import Questions
from eval.prompts import Prepared, prepare
from eval.results import ItemScore, Likelihoods, Score, score_of, write_results
from eval.rolling import encode_texts, measure
from eval.seen import split
from eval.tasks import GROUPS
from eval.texts import Texts
from recipes import parallel
from recipes.evaluation import Asked, Evaluation, Model
from recipes.subject import Subject, load_subject, start
from recipes.together import of_rank_0
from recipes.unfinished import Unfinished


def evaluate(config: Evaluation, model: Model, asked: Asked) -> dict[str, Score]:
    """Score the model, on a GPU where there is one, and write and print the results.

    The batches do not depend on the number of ranks, so neither do the scores.

    Returns:
        The scores by protocol, the same on every rank.
    """
    device = start()
    subject = load_subject(model, device, config.tokenizer, config.max_seq_len)
    scores = score_subject(config, model.name, subject, asked)
    parallel.leave()
    return scores


def score_subject(config: Evaluation, name: str, subject: Subject, asked: Asked) -> dict[str, Score]:
    """Score what is loaded on all protocols and texts; rank 0 writes ``NAME.json`` and prints the table."""
    leads = dist.get_global_rank() == 0
    if leads:
        say(f"{subject.about['model']}, computed by {subject.about['computed_by']}, in {config.precision}")
    start = time.monotonic()
    name = config.name or name
    computed = {"precision": config.precision, "batch": config.device_eval_batch_size, "by": subject.about}
    unfinished = Unfinished(config.out, name, {"model": subject.identity, **computed})
    scores: dict[str, Score] = {}
    items: list[ItemScore] = []
    for questions in asked.questions:
        prepared = _prepared(config, asked, questions, subject)
        if leads:
            say(prepared.describe())
        kept = of_rank_0(partial(unfinished.read, prepared))
        if kept is None:
            kept = _likelihoods(config, prepared, subject)
            of_rank_0(partial(unfinished.keep, prepared, *kept))
        elif leads:
            say(f"{prepared.name}: was scored before this command was cut off")
        scores[prepared.name], task_items = score_of(prepared, *kept)
        items += task_items
    measured: dict[str, TextScore] = {}
    documents: list[DocumentScore] = []
    for texts in asked.texts:
        if leads:
            say(texts.describe())
        measured[texts.name], of_texts = _measure(config, subject, texts)
        documents += of_texts
    about: dict[str, Any] = {
        **subject.about, "max_seq_len": subject.max_seq_len, "precision": config.precision, "data": config.data,
        "limit": config.limit, "beginning_of_text": config.beginning_of_text,
        "seconds": round(time.monotonic() - start, 1),
        "averages": {group: asdict(average) for group, average in averages(scores, GROUPS).items()},
    }  # fmt: skip
    if asked.corpus is not None:
        about["seen"] = split(scores, items, asked.corpus)
    if measured:
        about["texts"] = {text: asdict(score) for text, score in measured.items()}
    if leads:  # before they are written: a disk that is full by now takes hours of work with it
        print(table(scores))
        for text, of_text in measured.items():
            interval = f", {of_text.ci95[0]:.4f}-{of_text.ci95[1]:.4f}" if of_text.ci95 else ""
            print(f"{text}: {of_text.bits_per_byte:.4f} bits per byte{interval}; {of_text.documents:,} documents")
    of_rank_0(partial(_write, config.out, name, scores, items, documents, about))
    of_rank_0(unfinished.remove)
    if leads:
        say(f"results: {storage.join(config.out, name + '.json')} and its items.jsonl")
    return scores


def _write(
    out: str,
    name: str,
    scores: Mapping[str, Score],
    items: list[ItemScore],
    documents: list[DocumentScore],
    about: Mapping[str, Any],
) -> None:
    """The files of the results, ``NAME.json`` last."""
    if documents:
        lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in documents)
        storage.write_bytes(storage.join(out, f"{name}.texts.jsonl"), lines.encode())
    write_results(out, name, scores, items, about)


def _measure(config: Evaluation, subject: Subject, texts: Texts) -> tuple[TextScore, list[DocumentScore]]:
    """With a progress line in tokens on rank 0."""
    encoded = encode_texts(texts, subject.encoder, subject.max_seq_len)
    leads = dist.get_global_rank() == 0
    progressing = progress(texts.name, encoded.predicted, "tokens") if leads else nullcontext(_ignored)
    with _precision(config, subject), progressing as advance:
        mine = measure(
            encoded, subject.scorer.logits_at, config.device_eval_batch_size, dist.get_global_rank(),
            dist.get_world_size(), advance,
        )  # fmt: skip
    found = {window: nats for part in dist.all_gather_object(mine) for window, nats in part.items()}
    return score_texts(encoded, found)


def _prepared(config: Evaluation, asked: Asked, questions: Questions, subject: Subject) -> Prepared:
    """Tokenized once for all checkpoints with one tokenizer: of all tasks that is half a minute."""
    key = (questions.protocol.name, subject.encoder.sha256, subject.max_seq_len)
    if key not in asked.prepared:
        asked.prepared[key] = prepare(
            questions, subject.encoder, subject.max_seq_len, config.beginning_of_text, config.pmi
        )
    return asked.prepared[key]


def _likelihoods(config: Evaluation, prepared: Prepared, subject: Subject) -> tuple[Likelihoods, dict[str, float]]:
    """With a progress line on rank 0."""
    batch_size, leads = config.device_eval_batch_size, dist.get_global_rank() == 0
    progressing = progress(prepared.name, calls(prepared, batch_size), "batches") if leads else nullcontext(_ignored)
    with _precision(config, subject), progressing as advance:
        return likelihoods_on_all_ranks(prepared, subject.scorer, batch_size, advance)


def _precision(config: Evaluation, subject: Subject) -> torch.autocast:
    return torch.autocast(subject.device.type, dtype=torch.bfloat16, enabled=config.precision == "amp_bf16")


def _ignored(number: int) -> None:
    """Progress that rank 0 shows."""


def table(scores: Mapping[str, Score]) -> str:
    """The scores as lines of text; what could not be scored counts as wrong and is in ``n``."""
    width = max(len("task"), *map(len, scores)) + 2
    head = f"{'task':<{width}}{'score':<10}{'':>6}  {'95 % interval':<15}{'acc':>7}{'acc_norm':>10}{'majority':>10}"
    lines = [f"{head}{'n':>7}{'cut':>6}{'too long':>10}{'bad rows':>10}"]
    for name, score in scores.items():
        low, high = score.intervals[score.metric]
        shares = f"{score.metric:<10}{score.primary:>6.3f}  {f'{low:.3f}-{high:.3f}':<15}{score.acc:>7.3f}"
        shares += f"{score.acc_norm:>10.3f}{score.majority:>10.3f}"
        cut = score.fewer_shots + score.fewer_passages
        lines.append(f"{name:<{width}}{shares}{score.n:>7,}{cut:>6,}{score.too_long:>10,}{score.bad_rows:>10,}")
    return "\n".join(lines)
