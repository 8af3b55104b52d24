"""A protocol scored by all ranks together: each question once, on one of them."""

from collections.abc import Callable

from composer.utils import dist

from eval.prompts import Prepared
from eval.results import ItemScore, Score, score_of
from eval.scoring import Scorer, log_likelihoods, number_of_calls


def score_on_all_ranks(
    prepared: Prepared, model: Scorer, batch_size: int, advance: Callable[[int], None] = lambda batches: None
) -> tuple[Score, list[ItemScore]]:
    """The score and its items, the same on every rank. ``advance`` as :func:`eval.scoring.log_likelihoods` calls it."""
    rank, world_size = dist.get_global_rank(), dist.get_world_size()
    parts = [
        log_likelihoods(encoded, model, batch_size, rank, world_size, advance)
        for encoded in (prepared.encoded, tuple(prepared.without_question.values()))
    ]
    gathered = dist.all_gather_object(parts)
    found = {id: values for of_rank in gathered for id, values in of_rank[0].items()}
    alone = {text: values[0] for of_rank in gathered for text, values in of_rank[1].items()}
    return score_of(prepared, found, alone)


def calls(prepared: Prepared, batch_size: int) -> int:
    """How often ``advance`` is called on this rank."""
    encoded = (prepared.encoded, tuple(prepared.without_question.values()))
    return sum(number_of_calls(some, batch_size, dist.get_world_size()) for some in encoded)
