"""The likelihood of each option after its question, for any model, on this rank's share of the questions.

What a batch of questions costs, and which model can share what, is the business of the model: ``eval/gpt_scorer.py``
for ours, ``eval/transformers_scorer.py`` for any other causal language model.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any
from typing import Protocol as Interface

import torch

from base.errors import UserError
from eval.prompts import Encoded

LogitsAt = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""``logits_at(input_ids, positions)``: int64 [B, T] and int64 [B, P] → float [B, P, V], the logits of a causal model at
these positions only. Rows are padded on the right, which a causal model cannot see from the positions before it."""

SHORTEST_BEGINNING = 16  # tokens; what all questions share is read once if it is at least so long
Batch = list[Encoded]


class Scorer(Interface):
    """A model that scores questions. All run under ``torch.no_grad``."""

    def vocabulary(self) -> int:
        """How many ids it knows."""

    def read(self, beginning: Sequence[int]) -> Any:
        """Read what a group of questions begins with; what comes back is given to :meth:`score`."""

    def score(self, batch: Batch, beginning: Any, length: int) -> list[tuple[float, ...]]:
        """Natural log-likelihood of each option of each question, the first ``length`` given ids of which are
        ``beginning``, which is None when it is 0."""

    def idle(self) -> None:
        """Call the model as :meth:`score` would, for nothing: where it is sharded, all ranks must call it together."""


def log_likelihoods(
    encoded: Sequence[Encoded],
    model: Scorer,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    advance: Callable[[int], None] = lambda batches: None,
) -> dict[str, tuple[float, ...]]:
    """Natural log-likelihood of each option, by the question's id; of this rank's share of the questions.

    The batches are the same whatever the number of ranks; each is scored by one rank. Every rank calls the model as
    often as the others, as sharded models require.

    Args:
        encoded: all questions, the same on every rank.
        batch_size: questions of a batch.
        advance: called with 1 after each of this rank's :func:`number_of_calls`.

    Raises:
        UserError: the tokenizer has ids that the model does not know.
    """
    found: dict[str, tuple[float, ...]] = {}
    if not encoded:
        return found
    with torch.no_grad():
        require_vocabulary(
            max(token for one in encoded for row in (one.given, *one.options) for token in row), model.vocabulary()
        )
        for questions in _groups(encoded):
            shared = _common_beginning(questions)
            beginning = model.read(questions[0].given[:shared]) if shared else None
            batches = batches_by_length(questions, batch_size)
            for start in range(0, len(batches), world_size):
                if start + rank < len(batches):
                    batch = batches[start + rank]
                    distinct = [_distinct(question) for question in batch]
                    scores = model.score(distinct, beginning, shared)
                    for question, scored, values in zip(batch, distinct, scores, strict=True):
                        of_option = dict(zip(scored.options, values, strict=True))
                        found[question.id] = tuple(of_option[option] for option in question.options)
                else:
                    model.idle()
                advance(1)
    return found


def _distinct(question: Encoded) -> Encoded:
    """Options that are alike are scored once: by rounding alone the second could seem better than the first."""
    return replace(question, options=tuple(dict.fromkeys(question.options)))


def number_of_calls(encoded: Sequence[Encoded], batch_size: int, world_size: int) -> int:
    """How often :func:`log_likelihoods` says that it has advanced."""
    return sum(-(-len(batches_by_length(group, batch_size)) // world_size) for group in _groups(encoded))


def batches_by_length(encoded: Sequence[Encoded], batch_size: int) -> list[Batch]:
    """Longest first: little padding, and a batch that does not fit into memory fails at once."""
    ordered = sorted(encoded, key=lambda question: (-question.length, question.id))
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def _groups(encoded: Sequence[Encoded]) -> list[Batch]:
    """Questions that have as many shots before them, and so may share a beginning."""
    cuts = sorted({question.cut.shots for question in encoded})
    return [[question for question in encoded if question.cut.shots == cut] for cut in cuts]


def _common_beginning(questions: Sequence[Encoded]) -> int:
    """How many given ids all have in common, less the last of each; 0 when they are not worth sharing."""
    first = questions[0].given
    for question in questions:
        pairs = zip(first, question.given[:-1], strict=False)
        first = first[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))]
        if len(first) < SHORTEST_BEGINNING:
            return 0
    return len(first) if len(questions) > 1 else 0


def require_vocabulary(largest: int, known: int) -> None:
    """Raise UserError when the largest id of a tokenizer is none that the model knows.

    On a GPU such an id ends the process with an assertion of the device, far from its cause.
    """
    if largest >= known:
        raise UserError(
            f"the tokenizer gives the id {largest:,}, but the model knows {known:,} ids (0 to {known - 1:,}): "
            "score a model with the tokenizer that it was trained with",
            shared=True,
        )
