"""Questions scored by our own model: each with all its options in one row that branches (:mod:`model.branches`).

A question is read once, whatever the number of its options; what all questions of a task begin with (the shots) is read
once for all; and only the positions that predict a scored token go through the output projection.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from eval.prompts import Encoded
from model.branches import Beginning, Branches

Forward = Callable[[Mapping[str, Any]], torch.Tensor]
"""``{"input_ids": B T, "positions": N or B P, "branches": Branches}`` → logits, as :class:`model.composer_gpt`'s."""


class GPTScorer:
    """See :class:`eval.scoring.Scorer`.

    Args:
        forward: the model, in evaluation mode.
        device: where it wants its input.
    """

    def __init__(self, forward: Forward, device: torch.device):
        self.forward = forward
        self.device = device

    def logits_at(self, input_ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Of rows that do not branch; see :data:`eval.scoring.LogitsAt`."""
        return self.forward({"input_ids": input_ids.to(self.device), "positions": positions.to(self.device)})

    def vocabulary(self) -> int:
        nothing = torch.zeros(1, 1, dtype=torch.long)
        return self.logits_at(nothing, nothing).shape[-1]

    def read(self, beginning: Sequence[int]) -> Beginning:
        kept = Beginning()
        T = len(beginning)
        places = torch.arange(T).unsqueeze(0)  # 1 T
        sees = torch.ones(T, T, dtype=torch.bool).tril()[None, None]  # 1 1 T T
        ids = torch.tensor([beginning])  # 1 T
        self._logits(ids, torch.zeros(1, dtype=torch.long), Branches(places, sees, keep=kept))
        return kept

    def idle(self) -> None:
        self.vocabulary()

    def score(self, batch: Sequence[Encoded], beginning: Beginning | None, length: int) -> list[tuple[float, ...]]:
        rows = [_Row(question, length) for question in batch]
        B, T = len(rows), max(len(row.ids) for row in rows)
        ids = torch.zeros(B, T, dtype=torch.long)
        places = torch.zeros(B, T, dtype=torch.long)
        sees = torch.zeros(B, 1, T, length + T, dtype=torch.bool)
        sees[..., :length] = True
        for index, row in enumerate(rows):
            S = len(row.ids)
            ids[index, :S] = torch.tensor(row.ids)
            places[index, :S] = torch.tensor(row.places)
            sees[index, 0, :S, length : length + S] = row.sees()
            sees[index, 0, S:, length] = True  # padding must see something: a softmax over nothing is no number

        # Each token that predicts, once for its row, counted through the rows; and of each scored one, which it is.
        predicts = [index * T + place for index, row in enumerate(rows) for place in row.predicts]  # N
        first = [0, *accumulate(len(row.predicts) for row in rows)]
        scored = [(first[index] + place, token) for index, row in enumerate(rows) for place, token in row.scored]
        logits = self._logits(ids, torch.tensor(predicts), Branches(places, sees, beginning)).float()  # N V
        place_of, token_of = torch.tensor(scored, device=logits.device).unbind(1)
        chosen = logits[place_of, token_of] - logits.logsumexp(-1)[place_of]
        values = iter(chosen.cpu().double().tolist())
        return [tuple(sum(next(values) for _ in option) for option in question.options) for question in batch]

    def _logits(self, ids: torch.Tensor, positions: torch.Tensor, branches: Branches) -> torch.Tensor:
        branches.places, branches.sees = branches.places.to(self.device), branches.sees.to(self.device)
        return self.forward(
            {"input_ids": ids.to(self.device), "positions": positions.to(self.device), "branches": branches}
        )


class _Row:
    """A question with its options, from the ``length``-th given id on.

    Attributes:
        ids, places: of each token that is read; the last of an option is scored, but not read.
        predicts: the tokens (by their number in the row) whose logits are asked for.
        scored: for each token of each option, which of ``predicts`` predicts it, and its id.
    """

    def __init__(self, question: Encoded, length: int):
        own = question.given[length:]
        self.own = len(own)
        self.branches = [len(option) - 1 for option in question.options]
        self.ids = list(own)
        self.places = list(range(length, length + len(own)))
        self.predicts = [len(own) - 1]
        self.scored: list[tuple[int, int]] = []
        for option in question.options:
            self.scored.append((0, option[0]))
            for offset, token in enumerate(option[:-1]):
                self.scored.append((len(self.predicts), option[offset + 1]))
                self.predicts.append(len(self.ids))
                self.ids.append(token)
                self.places.append(length + len(own) + offset)

    def sees(self) -> torch.Tensor:
        """S S, bool: the question, and of its own option what stands before."""
        sees = torch.ones(len(self.ids), len(self.ids), dtype=torch.bool).tril()
        start = self.own
        for tokens in self.branches:
            sees[start : start + tokens, self.own : start] = False
            start += tokens
        return sees
