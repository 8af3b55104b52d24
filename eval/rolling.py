"""The likelihood of whole texts, in windows that roll over each document.

A document's log-likelihood is that of lm-eval's ``loglikelihood_rolling``: the first token is predicted from
``<|endoftext|>``, each token exactly once, in windows of as many tokens as the model reads; the last window reaches
back for a full context.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from base.errors import UserError
from eval.prompts import Encoder
from eval.scoring import LogitsAt, require_vocabulary
from eval.task import Refused
from eval.texts import Document, Texts

ENCODED_AT_ONCE = 1 << 20  # characters given to the tokenizer: what it returns takes a hundred times as much memory
LOGITS_BYTES = 1 << 30  # of a batch, reckoned in fp32: a row of 1,024 tokens and 28,896 entries has 118 MB
SOFTMAX_BYTES = 1 << 24  # of these, turned into log-likelihoods at a time: on a CPU what fits its cache is faster


class Window(NamedTuple):
    """What one row predicts. Places are among the document's tokens with ``<|endoftext|>`` before them.

    The model reads ``begin`` to ``end - 2``, and ``first`` to ``end - 1`` are predicted.
    """

    document: int
    begin: int
    first: int
    end: int

    @property
    def length(self) -> int:
        """Positions of the model that it takes."""
        return self.end - 1 - self.begin

    @property
    def predicted(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class EncodedTexts:
    """A set of texts, ready to be measured by any model with this tokenizer.

    Attributes:
        documents: those that have tokens.
        tokens: of each, int32, with ``<|endoftext|>`` before the first.
        windows: of all documents, in their order.
        refused: of the texts, and the documents that this tokenizer leaves without tokens.
        context: tokens before those predicted that a window after a document's first one sees at least.
    """

    texts: Texts
    documents: tuple[Document, ...]
    tokens: tuple[NDArray[np.int32], ...]
    windows: tuple[Window, ...]
    refused: tuple[Refused, ...]
    tokenizer_sha256: str
    max_seq_len: int
    context: int

    @property
    def predicted(self) -> int:
        """How many tokens are predicted in all."""
        return sum(window.predicted for window in self.windows)


def encode_texts(texts: Texts, encoder: Encoder, max_seq_len: int, context: int = 1) -> EncodedTexts:
    """Tokenize a set of texts and cut it into windows.

    Args:
        context: see :class:`EncodedTexts`; 1 to ``max_seq_len``. With 1, as in lm-eval, windows do not overlap but for
            the last, and each token costs one position of the model; with half of ``max_seq_len``, two.

    Raises:
        UserError: the tokenizer has no ``<|endoftext|>`` to predict the first token from.
    """
    if not 1 <= context <= max_seq_len:
        raise ValueError(f"context {context}: from 1 to max_seq_len, {max_seq_len}")
    if encoder.beginning_of_text is None:
        raise UserError("texts: the tokenizer has no <|endoftext|>, from which a document's first token is predicted")
    documents: list[Document] = []
    tokens: list[NDArray[np.int32]] = []
    windows: list[Window] = []
    refused = list(texts.refused)
    for document, ids in _encoded(texts.documents, encoder):
        if not ids:
            refused.append(Refused(document.id, document.id, "the tokenizer makes no token of it"))
            continue
        windows += _windows(len(documents), len(ids), max_seq_len, context)
        documents.append(document)
        tokens.append(np.array([encoder.beginning_of_text, *ids], dtype=np.int32))
    return EncodedTexts(
        texts, tuple(documents), tuple(tokens), tuple(windows), tuple(refused), encoder.sha256, max_seq_len, context
    )


def _encoded(documents: Sequence[Document], encoder: Encoder) -> Iterator[tuple[Document, list[int]]]:
    batch: list[Document] = []
    characters = 0
    for number, document in enumerate(documents):
        batch.append(document)
        characters += len(document.text)
        if characters >= ENCODED_AT_ONCE or number == len(documents) - 1:
            yield from zip(batch, encoder([one.text for one in batch]), strict=True)
            batch, characters = [], 0


def _windows(document: int, tokens: int, max_seq_len: int, context: int) -> Iterator[Window]:
    """The windows of a document of so many tokens. Source of the definition: lm-eval 0.4.13,
    ``get_rolling_token_windows``."""
    predicted = 0
    while predicted < tokens:
        step = max_seq_len - context + 1 if predicted else max_seq_len
        end = min(predicted + step, tokens)
        yield Window(document, max(0, end - max_seq_len), predicted + 1, end + 1)
        predicted = end


def measure(
    encoded: EncodedTexts,
    logits_at: LogitsAt,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    advance: Callable[[int], None] = lambda tokens: None,
) -> dict[int, float]:
    """Negative log-likelihood in nats of each window, by its number in ``windows``; of this rank's share of them.

    The batches are the same whatever the number of ranks; each is measured by one rank. Every rank calls ``logits_at``
    equally often (with a row of one token where it has nothing left), as sharded models require.

    Args:
        encoded: the same on every rank.
        logits_at: see :mod:`eval.scoring`. Runs under ``torch.no_grad``; logits may be in any floating type.
        batch_size: rows at most; fewer where their logits would take more than ``LOGITS_BYTES``.
        advance: is told how many tokens all ranks have measured together since it was last called.

    Raises:
        UserError: the tokenizer has ids that the model does not know.
    """
    if not encoded.windows:
        return {}
    found: dict[int, float] = {}
    nothing = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        vocabulary = logits_at(nothing, nothing).shape[-1]
        require_vocabulary(max(int(ids.max()) for ids in encoded.tokens), vocabulary)
        batches = _batches(encoded.windows, batch_size, vocabulary)
        for start in range(0, len(batches), world_size):
            together = batches[start : start + world_size]
            if rank < len(together):
                found |= _measured(encoded, together[rank], logits_at)
            else:
                logits_at(nothing, nothing)
            advance(sum(encoded.windows[number].predicted for batch in together for number in batch))
    return found


def _batches(windows: Sequence[Window], batch_size: int, vocabulary: int) -> list[list[int]]:
    """Numbers of windows, longest first: little padding, and a batch that does not fit into memory fails at once."""
    batches: list[list[int]] = []
    places = LOGITS_BYTES // (4 * vocabulary)
    predicted = 0  # of the row with the most
    order = sorted(
        range(len(windows)), key=lambda number: (-windows[number].length, -windows[number].predicted, number)
    )
    for number in order:
        predicted = max(predicted, windows[number].predicted)
        if not batches or len(batches[-1]) == batch_size or (len(batches[-1]) + 1) * predicted > places:
            batches.append([])
            predicted = windows[number].predicted
        batches[-1].append(number)
    return batches


def _measured(encoded: EncodedTexts, batch: Sequence[int], logits_at: LogitsAt) -> dict[int, float]:
    windows = [encoded.windows[number] for number in batch]
    predicted = torch.tensor([window.predicted for window in windows])
    ids = torch.zeros(len(windows), max(window.length for window in windows), dtype=torch.long)  # [B, T]
    positions = torch.zeros(len(windows), int(predicted.max()), dtype=torch.long)  # [B, P]
    targets = torch.zeros_like(positions)  # [B, P]
    for row, window in enumerate(windows):
        tokens = torch.from_numpy(encoded.tokens[window.document])
        ids[row, : window.length] = tokens[window.begin : window.end - 1]
        first = window.first - 1 - window.begin  # predicts the token after it
        positions[row, : window.predicted] = torch.arange(first, window.length)
        targets[row, : window.predicted] = tokens[window.first : window.end]
    is_predicted = torch.arange(positions.shape[1]) < predicted.unsqueeze(1)  # [B, P]

    logits = logits_at(ids, positions)  # [B, P, V]
    if logits.shape[:2] != positions.shape:
        raise ValueError(f"asked for the logits at {tuple(positions.shape)} positions, got {tuple(logits.shape[:2])}")
    nats = torch.where(is_predicted, _nats(logits, targets), 0.0)  # [B, P]
    return dict(zip(batch, nats.sum(1).tolist(), strict=True))


def _nats(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of the targets [B, P] under the logits [B, P, V] → float64 [B, P], on the CPU."""
    rows, wanted = logits.flatten(0, 1), targets.to(logits.device).flatten()  # [B x P, V], [B x P]
    step = max(1, SOFTMAX_BYTES // (4 * rows.shape[1]))
    pieces = [
        cross_entropy(rows[first : first + step].float(), wanted[first : first + step], reduction="none")
        for first in range(0, len(rows), step)
    ]
    return torch.cat(pieces).view(targets.shape).cpu().double()
