"""Rows that branch: one text and several continuations of it in one row, so that the text is read once for all.

A token sees what stands before it in its own text: a shared beginning that was read earlier, the row's own text, and
its own continuation. Scoring (``eval``) is what needs it; training never does.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


# Objects, not tuples or dictionaries: FSDP2 takes those apart and puts copies of them together before each call.
@dataclass(eq=False)
class Beginning:
    """Keys and values of a text that rows begin with, one of each a layer: 1 H P D/H, P its tokens."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    @property
    def length(self) -> int:
        """P."""
        return self.keys[0].shape[2]


@dataclass(eq=False)
class Branches:
    """What a batch of such rows is.

    Attributes:
        places: B T or 1 T, int64: the position of each token in its text.
        sees: B 1 T P+T or 1 1 T P+T, bool: whether a token sees the one at a place of beginning and row.
        beginning: of every row; None: they have none.
        keep: the keys and values of the row are added to it, which is how a beginning is made.
    """

    places: Tensor
    sees: Tensor
    beginning: Beginning | None = None
    keep: Beginning | None = None

    def of_layer(self, number: int, asked_for: Tensor | None) -> "OfLayer":
        """What a block needs of it in one layer, counted from 0."""
        return OfLayer(self, number, asked_for)


@dataclass(eq=False)
class OfLayer:
    """The branches, for one layer. ``asked_for``: N, the tokens of all rows that the block gives; None: all, B T."""

    branches: Branches
    number: int
    asked_for: Tensor | None

    @property
    def sees(self) -> Tensor:
        """Of all layers alike."""
        return self.branches.sees

    def after_beginning(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the rows (B H T D/H) → those of beginning and row (B H P+T D/H)."""
        if self.branches.keep is not None:
            self.branches.keep.keys.append(k)
            self.branches.keep.values.append(v)
        beginning = self.branches.beginning
        if beginning is None:
            return k, v
        before_k, before_v = beginning.keys[self.number], beginning.values[self.number]
        expand = (k.shape[0], -1, -1, -1)
        return torch.cat((before_k.expand(expand), k), dim=2), torch.cat((before_v.expand(expand), v), dim=2)
