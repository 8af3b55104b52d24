"""Questions scored by any Hugging Face causal language model, through the interfaces that all of them have.

A question is read once into the model's cache, and its options are read after it. Models that have no such cache, or
whose cache gives other likelihoods than reading everything anew, are told by trying both on the first question.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from base.progress import say
from eval.prompts import Encoded

CLOSE = {"rtol": 1e-4, "atol": 1e-3}  # of log-likelihoods in fp32
IN_HALF = {"rtol": 2e-2, "atol": 0.5}  # the same, of models in 16 bits


class TransformersScorer:
    """See :class:`eval.scoring.Scorer`. The model should be in evaluation mode."""

    def __init__(self, model: torch.nn.Module):
        self.model = model
        self.device = next(model.parameters()).device
        self.close = CLOSE if next(model.parameters()).dtype == torch.float32 else IN_HALF
        self.projects = _projects(model)
        self.has_cache: bool | None = None  # not tried yet

    def logits_at(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """See :data:`eval.scoring.LogitsAt`."""
        ids, where = input_ids.to(self.device), positions.to(self.device)
        if not self.projects:
            return _at(self.model(input_ids=ids, use_cache=False).logits, where)  # B P V
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state  # B T D
        return self.model.get_output_embeddings()(_at(hidden, where))  # B P V

    def vocabulary(self) -> int:
        nothing = torch.zeros(1, 1, dtype=torch.long)
        return self.logits_at(nothing, nothing).shape[-1]

    def read(self, beginning: Sequence[int]) -> Any:
        """A cache, or the ids where the model has none that can be shared."""
        if self.has_cache is False:
            return list(beginning)
        try:
            return self._after(None, torch.tensor([beginning]))[1], list(beginning)
        except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
            self._without_cache(error)
            return list(beginning)

    def idle(self) -> None:
        """Nothing: such a model is whole on every rank."""

    def score(self, batch: Sequence[Encoded], beginning: Any, length: int) -> list[tuple[float, ...]]:
        if self.has_cache is None:
            self._try(batch[0], beginning, length)
        if not self.has_cache:
            return self._anew(batch)
        return self._with_cache(batch, beginning[0] if beginning else None, length)

    def _try(self, question: Encoded, beginning: Any, length: int) -> None:
        try:
            shared = self._with_cache([question], beginning[0] if beginning else None, length)[0]
        except (AttributeError, TypeError, ValueError, NotImplementedError) as error:
            return self._without_cache(error)
        anew = self._anew([question])[0]
        if not torch.allclose(torch.tensor(shared), torch.tensor(anew), **self.close):
            return self._without_cache(f"with it {shared}, without it {anew}")
        self.has_cache = True
        return None

    def _without_cache(self, reason: object) -> None:
        self.has_cache = False
        say(f"{type(self.model).__name__}: its cache cannot be shared by options, so each is read in full: {reason}")

    def _with_cache(self, batch: Sequence[Encoded], beginning: Any, length: int) -> list[tuple[float, ...]]:
        found: dict[str, tuple[float, ...]] = {}
        lengths = dict.fromkeys(len(question.given) for question in batch)
        for given in lengths:  # questions of one length need no padding, which not every model knows how to skip
            questions = [question for question in batch if len(question.given) == given]
            ids = torch.tensor([question.given[length:] for question in questions])  # B T
            logits, cache = self._after(_copies(beginning, len(questions)), ids)  # B 1 V
            first = logits[:, 0].log_softmax(-1)  # B V
            for question, of_first, cache_of in zip(questions, first, _each(cache, len(questions)), strict=True):
                found[question.id] = self._options(question, of_first, cache_of)
        return [found[question.id] for question in batch]

    def _options(self, question: Encoded, of_first: torch.Tensor, cache: Any) -> tuple[float, ...]:
        """``of_first``: V, the log-probabilities of an option's first token; ``cache``: of the question alone."""
        sums = of_first[[option[0] for option in question.options]].double()
        longest = max(map(len, question.options)) - 1
        if longest:
            ids = torch.zeros(len(question.options), longest, dtype=torch.long)  # O L
            for row, option in zip(ids, question.options, strict=True):
                row[: len(option) - 1] = torch.tensor(option[:-1])
            logits, _ = self._after(_copies(cache, len(question.options)), ids, longest)  # O L V
            log_probabilities = logits.log_softmax(-1)
            for number, option in enumerate(question.options):
                rest = torch.tensor(option[1:], dtype=torch.long, device=self.device)
                sums[number] += log_probabilities[number, torch.arange(len(rest)), rest].double().sum()
        return tuple(sums.tolist())

    def _after(self, cache: Any, ids: torch.Tensor, last: int = 1) -> tuple[torch.Tensor, Any]:
        """Read ids (B T) after a cache → the logits of the ``last`` of them (B last V, fp32), and the cache of both."""
        cache = DynamicCache() if cache is None else cache
        model = self.model.base_model if self.projects else self.model
        out = model(input_ids=ids.to(self.device), past_key_values=cache, use_cache=True)
        if not isinstance(out.past_key_values, DynamicCache):
            raise NotImplementedError(f"its cache is a {type(out.past_key_values).__name__}")
        if not self.projects:
            return out.logits[:, -last:].float(), out.past_key_values
        hidden = out.last_hidden_state[:, -last:]  # B last D
        return self.model.get_output_embeddings()(hidden).float(), out.past_key_values

    def _anew(self, batch: Sequence[Encoded]) -> list[tuple[float, ...]]:
        """Each option in a row with its question; only scored positions are projected where the model allows it."""
        rows = [(len(question.given), (*question.given, *option)) for question in batch for option in question.options]
        scored = [len(row) - given for given, row in rows]
        ids = torch.zeros(len(rows), max(len(row) for _, row in rows) - 1, dtype=torch.long)  # R T
        positions = torch.zeros(len(rows), max(scored), dtype=torch.long)  # R P
        targets = torch.zeros_like(positions)  # R P
        for index, (given, row) in enumerate(rows):
            ids[index, : len(row) - 1] = torch.tensor(row[:-1])
            positions[index, : scored[index]] = torch.arange(given - 1, len(row) - 1)  # each predicts the one after it
            targets[index, : scored[index]] = torch.tensor(row[given:])
        is_scored = torch.arange(positions.shape[1]) < torch.tensor(scored).unsqueeze(1)  # R P
        logits = self.logits_at(ids, positions).float()  # R P V
        chosen = logits.gather(-1, targets.to(logits.device).unsqueeze(-1)).squeeze(-1)  # R P
        of_tokens = (chosen - logits.logsumexp(-1)).cpu().double()  # R P
        sums = iter(of_tokens.where(is_scored, 0.0).sum(1).tolist())  # R
        return [tuple(next(sums) for _ in question.options) for question in batch]


def _copies(cache: Any, number: int) -> Any:
    """So many rows of a cache of one row, apart from it: a model adds to the cache that it is given."""
    if cache is None:
        return None
    copied = copy.deepcopy(cache)
    copied.batch_repeat_interleave(number)
    return copied


def _each(cache: Any, number: int) -> list[Any]:
    """The cache of each row."""
    if number == 1:
        return [cache]
    rows = [copy.deepcopy(cache) for _ in range(number)]
    for index, row in enumerate(rows):
        row.batch_select_indices(torch.tensor([index], device=cache.key_cache[0].device))
    return rows


def _projects(model: torch.nn.Module) -> bool:
    """Whether logits are the body's hidden states through the output embeddings and nothing more.

    Then only the positions asked for go through that projection, which is most of the work of a small model. Models
    that do more after their body (scaled or capped logits) are told apart by trying both ways on three tokens.
    """
    with torch.no_grad():
        ids = torch.tensor([[0, 1, 2]], device=next(model.parameters()).device)
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        projected, logits = model.get_output_embeddings()(hidden), model(input_ids=ids, use_cache=False).logits
    return torch.allclose(projected.float(), logits.float(), rtol=1e-4, atol=1e-5)


def _at(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """States [B, T, D] at positions [B, P] → [B, P, D]."""
    return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
