"""Questions scored by any Hugging Face causal language model, through the interfaces that all of them have.

A question is read once into the model's cache, and its options are read after it. Models that have no such cache, or
whose cache gives other likelihoods than reading everything anew, are told by trying both on the first question.
"""

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache

from base.errors import UserError
from base.progress import say
from eval.prompts import Encoded

CLOSE = {"rtol": 1e-4, "atol": 1e-3}  # of log-likelihoods in fp32
IN_HALF = {"rtol": 2e-2, "atol": 0.5}  # the same, computed in 16 bits
# What models raise that have no cache of the common kind: some miss a name or an entry, MPT counts another length.
NO_COMMON_CACHE = (AttributeError, IndexError, KeyError, NotImplementedError, TypeError, ValueError)


class TransformersScorer:
    """See :class:`eval.scoring.Scorer`. The model should be in evaluation mode.

    Raises:
        UserError: the model is none that reads from left to right.
    """

    def __init__(self, model: torch.nn.Module):
        self.model = model
        self.device = next(model.parameters()).device
        model.config.use_cache = False  # not as an argument, which not every model takes
        _require_causal(model)
        self.projects = _projects(model)
        self.keeps = not self.projects and "logits_to_keep" in signature(model.forward).parameters
        self.has_cache: bool | None = None  # not tried yet

    def logits_at(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """See :data:`eval.scoring.LogitsAt`."""
        ids, where = input_ids.to(self.device), positions.to(self.device)
        if not self.projects:
            return _at(self.model(input_ids=ids).logits, where)  # B P V
        hidden = self.model.base_model(input_ids=ids).last_hidden_state  # B T D
        return self._project(_at(hidden, where))  # B P V

    def vocabulary(self) -> int:
        nothing = torch.zeros(1, 1, dtype=torch.long)
        return self.logits_at(nothing, nothing).shape[-1]

    def read(self, beginning: Sequence[int]) -> Any:
        """A cache, or the ids where the model has none that can be shared."""
        if self.has_cache is False:
            return list(beginning)
        try:
            return self._after(None, torch.tensor([beginning]))[1], list(beginning)
        except NO_COMMON_CACHE as error:
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
        except NO_COMMON_CACHE as error:
            return self._without_cache(error)
        anew = self._anew([question])[0]
        half = torch.is_autocast_enabled(self.device.type) or next(self.model.parameters()).dtype != torch.float32
        if not torch.allclose(torch.tensor(shared), torch.tensor(anew), **(IN_HALF if half else CLOSE)):
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
        keep = {"logits_to_keep": last} if self.keeps else {}  # of Gemma's 256,000 entries all would be 1 GB a row
        out = model(input_ids=ids.to(self.device), past_key_values=cache, use_cache=True, **keep)
        if not isinstance(out.past_key_values, DynamicCache):
            raise NotImplementedError(f"its cache is a {type(out.past_key_values).__name__}")
        if not self.projects:
            return out.logits[:, -last:].float(), out.past_key_values
        hidden = out.last_hidden_state[:, -last:]  # B last D
        return self._project(hidden), out.past_key_values

    def _project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (B P D) → logits (B P V) in fp32 whatever the precision, as those of :class:`model.gpt.GPT`."""
        with torch.autocast(self.device.type, enabled=False):
            head = self.model.get_output_embeddings()
            return head(hidden.to(head.weight.dtype)).float()

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
    return (
        None
        if cache is None
        else _made_of((k.expand(number, *k.shape[1:]), v.expand(number, *v.shape[1:])) for k, v in cache)
    )


def _each(cache: Any, number: int) -> list[Any]:
    """The cache of each row."""
    return [_made_of((k[row : row + 1], v[row : row + 1]) for k, v in cache) for row in range(number)]


def _made_of(layers: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> DynamicCache:
    """A cache of these keys and values, which are read but never written: what a model adds goes into new tensors."""
    cache = DynamicCache()
    for number, (k, v) in enumerate(layers):
        cache.update(k, v, number)
    return cache


def _require_causal(model: torch.nn.Module) -> None:
    """A model that sees what comes after a place (BERT's kind) is told all the answers, and its scores mean nothing."""
    with torch.no_grad():
        ids = torch.tensor([[0, 1, 1], [0, 2, 2]], device=next(model.parameters()).device)
        one, other = model(input_ids=ids).logits[:, 0].float()
    if not torch.allclose(one, other, rtol=1e-3, atol=1e-3):
        raise UserError(
            f"model: {type(model).__name__} sees the tokens after a place when it predicts there: it is no causal "
            "language model, and likelihoods of options have no meaning",
            shared=True,
        )


def _projects(model: torch.nn.Module) -> bool:
    """Whether logits are the body's hidden states through the output embeddings and nothing more.

    Then only the positions asked for go through that projection, which is most of the work of a small model. Models
    that do more after their body (scaled or capped logits) are told apart by trying both ways on three tokens.
    """
    with torch.no_grad():
        ids = torch.tensor([[0, 1, 2]], device=next(model.parameters()).device)
        logits = model(input_ids=ids).logits
        try:
            projected = model.get_output_embeddings()(model.base_model(input_ids=ids).last_hidden_state)
        except (AttributeError, TypeError):  # no body of its own, or no such projection
            return False
    return torch.allclose(projected.float(), logits.float(), rtol=1e-4, atol=1e-5)


def _at(states: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """States [B, T, D] at positions [B, P] → [B, P, D]."""
    return states.gather(1, positions.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
