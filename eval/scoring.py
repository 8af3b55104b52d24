"""The likelihood of each option's text after its question, from any model that turns token ids into logits.

A model is a function ``logits_at(input_ids, positions)``: int64 [B, T] and int64 [B, P] → float [B, P, V], the logits
of a causal model at these positions only. Rows are padded on the right with zeros, which a causal model cannot see from
the positions before them, so no attention mask is needed.
"""

from collections.abc import Callable, Sequence

import torch

from base.errors import UserError
from eval.prompts import Encoded

LogitsAt = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Batch = list[Encoded]


def option_log_likelihoods(
    encoded: Sequence[Encoded], logits_at: LogitsAt, batch_size: int, rank: int = 0, world_size: int = 1
) -> dict[str, tuple[float, ...]]:
    """Natural log-likelihood of each option, by the question's id; of this rank's share of the questions.

    The batches are the same whatever the number of ranks; each is scored by one rank. Every rank calls ``logits_at``
    equally often (with a row of one token where it has nothing left to score), as sharded models require.

    Args:
        encoded: all questions, the same on every rank.
        logits_at: see above. Runs under ``torch.no_grad``; logits may be in any floating type.
        batch_size: rows (a question has one for each option). A question is never divided, so a batch smaller than a
            question's options still takes the whole question.

    Raises:
        UserError: the tokenizer has ids that the model does not know.
    """
    batches = batches_by_length(encoded, batch_size)
    if not batches:
        return {}
    found: dict[str, tuple[float, ...]] = {}
    nothing = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        _require_vocabulary(encoded, logits_at(nothing, nothing).shape[-1])
        for start in range(0, len(batches), world_size):
            if start + rank < len(batches):
                found |= _score(batches[start + rank], logits_at)
            else:
                logits_at(nothing, nothing)
    return found


def batches_by_length(encoded: Sequence[Encoded], batch_size: int) -> list[Batch]:
    """Whole questions, longest first: little padding, and a batch that does not fit into memory fails at once."""
    batches: list[Batch] = []
    rows = batch_size
    for question in sorted(encoded, key=lambda question: (-question.length, question.id)):
        if rows + len(question.rows) > batch_size:
            batches.append([])
            rows = 0
        batches[-1].append(question)
        rows += len(question.rows)
    return batches


def _score(batch: Batch, logits_at: LogitsAt) -> dict[str, tuple[float, ...]]:
    rows = [(question.given, row) for question in batch for row in question.rows]
    scored = [len(row) - given for given, row in rows]
    ids = torch.zeros(len(rows), max(len(row) for _, row in rows) - 1, dtype=torch.long)  # [B, T]
    positions = torch.zeros(len(rows), max(scored), dtype=torch.long)  # [B, P]
    targets = torch.zeros_like(positions)  # [B, P]
    for index, (given, row) in enumerate(rows):
        ids[index, : len(row) - 1] = torch.tensor(row[:-1])
        positions[index, : scored[index]] = torch.arange(given - 1, len(row) - 1)  # each predicts the token after it
        targets[index, : scored[index]] = torch.tensor(row[given:])
    is_scored = torch.arange(positions.shape[1]) < torch.tensor(scored).unsqueeze(1)  # [B, P]

    logits = logits_at(ids, positions).float()  # [B, P, V]
    if logits.shape[:2] != positions.shape:
        raise ValueError(f"asked for the logits at {tuple(positions.shape)} positions, got {tuple(logits.shape[:2])}")
    chosen = logits.gather(-1, targets.to(logits.device).unsqueeze(-1)).squeeze(-1)  # [B, P]
    of_tokens = (chosen - logits.logsumexp(-1)).cpu().double()  # [B, P]
    sums = iter(of_tokens.where(is_scored, 0.0).sum(1).tolist())  # B
    return {question.id: tuple(next(sums) for _ in question.rows) for question in batch}


def _require_vocabulary(encoded: Sequence[Encoded], known: int) -> None:
    # On a GPU an id outside the embedding ends the process with an assertion of the device, far from its cause.
    largest = max(token for question in encoded for row in question.rows for token in row)
    if largest >= known:
        raise UserError(
            f"the tokenizer gives the id {largest:,}, but the model knows {known:,} ids (0 to {known - 1:,}): "
            "score a model with the tokenizer that it was trained with"
        )


def from_transformers(model: torch.nn.Module) -> LogitsAt:
    """``logits_at`` for a Hugging Face causal language model, which should be in evaluation mode.

    The body gives hidden states and only the positions asked for go through the output projection, which is most of the
    work of a small model. Models that do more than that after their body (scaled or capped logits) are told apart by
    trying both ways on three tokens; they give all logits, from which the positions are taken.
    """

    def projected(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        device = next(model.parameters()).device
        hidden = model.base_model(input_ids=input_ids.to(device), use_cache=False).last_hidden_state  # [B, T, D]
        return model.get_output_embeddings()(_at(hidden, positions.to(device)))  # [B, P, V]

    def taken(input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        device = next(model.parameters()).device
        logits = model(input_ids=input_ids.to(device), use_cache=False).logits  # [B, T, V]
        return _at(logits, positions.to(device))  # [B, P, V]

    with torch.no_grad():
        ids, positions = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 2]])
        same = torch.allclose(projected(ids, positions).float(), taken(ids, positions).float(), rtol=1e-4, atol=1e-5)
    return projected if same else taken


def _at(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """States [B, T, D] at positions [B, P] → [B, P, D]."""
    return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
