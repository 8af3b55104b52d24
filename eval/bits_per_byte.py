"""How well a model predicts texts: bits per byte, which compares models whatever their tokenizers.

The bytes are those of the text in UTF-8, whatever a tokenizer makes of them. No torch here.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from typing import TYPE_CHECKING

from base.errors import UserError
from eval.statistics import Z95
from eval.task import Refused

if TYPE_CHECKING:
    from eval.rolling import EncodedTexts  # imports torch


@dataclass(frozen=True)
class DocumentScore:
    """One document: ``nats`` is its negative log-likelihood. ``sha256``, ``bytes`` and ``words`` are of its text."""

    texts: str
    id: str
    sha256: str
    bytes: int
    words: int
    tokens: int
    nats: float


@dataclass(frozen=True)
class TextScore:
    """A model on one set of texts. All averages are over the whole set: documents count by their length.

    Attributes:
        bits_per_byte: negative log-likelihood in bits, over bytes of text. Its tokens' ends of documents are not in it.
        ci95: its 95 % interval, documents taken as drawn at random; None for a single document.
        byte_perplexity, word_perplexity, token_perplexity: exp of the nats for each; None where that overflows. Words
            are counted as lm-eval does, as the pieces between white space. That of tokens compares for one tokenizer.
        documents, bytes, words, tokens: what was measured.
        refused: what was not, and why.
        documents_found, bytes_found, limit_bytes: what there was before the limit.
        texts_sha256: over the contents measured; scores compare when it is the same.
        tokenizer_sha256, max_seq_len, context: what decides the tokens and what each of them is predicted from.
    """

    name: str
    place: str
    bits_per_byte: float
    ci95: tuple[float, float] | None
    nats_per_token: float
    byte_perplexity: float | None
    word_perplexity: float | None
    token_perplexity: float | None
    documents: int
    bytes: int
    words: int
    tokens: int
    refused: tuple[Refused, ...]
    documents_found: int
    bytes_found: int
    limit_bytes: int | None
    texts_sha256: str
    tokenizer_sha256: str
    max_seq_len: int
    context: int


@dataclass(frozen=True)
class Difference:
    """How much more one model needs than another on the same documents; ``ci95`` is paired by document."""

    bits_per_byte: float
    ci95: tuple[float, float] | None
    documents: int
    bytes: int


def score_texts(encoded: "EncodedTexts", nats: Mapping[int, float]) -> tuple[TextScore, list[DocumentScore]]:
    """The score of a set, and of each of its documents.

    Args:
        nats: what :func:`measure` has returned on all ranks.

    Raises:
        UserError: nothing was measured, or the model gives no number for a document.
    """
    texts = encoded.texts
    if not encoded.documents:
        raise UserError(f"{texts.place}: the tokenizer makes no token of any text in it")
    of_document = [0.0] * len(encoded.documents)
    for number, window in enumerate(encoded.windows):
        of_document[window.document] += nats[number]
    documents = [
        DocumentScore(
            texts.name, document.id, document.sha256, document.bytes, _words(document.text), len(tokens) - 1, value
        )
        for document, tokens, value in zip(encoded.documents, encoded.tokens, of_document, strict=True)
    ]
    lost = next((document for document in documents if not isfinite(document.nats)), None)
    if lost is not None:
        raise UserError(f"{texts.name}: the model gives {lost.id} the log-likelihood {-lost.nats}: it is broken")
    total, tokens = sum(of_document), sum(document.tokens for document in documents)
    size, words = sum(document.bytes for document in documents), sum(document.words for document in documents)
    ratio, interval = ratio_with_interval([d.nats / log(2) for d in documents], [d.bytes for d in documents])
    score = TextScore(
        name=texts.name,
        place=texts.place,
        bits_per_byte=ratio,
        ci95=interval,
        nats_per_token=total / tokens,
        byte_perplexity=_exp(total / size),
        word_perplexity=_exp(total / words),
        token_perplexity=_exp(total / tokens),
        documents=len(documents),
        bytes=size,
        words=words,
        tokens=tokens,
        refused=encoded.refused,
        documents_found=texts.documents_found,
        bytes_found=texts.bytes_found,
        limit_bytes=texts.limit_bytes,
        texts_sha256=_texts_sha256(documents),
        tokenizer_sha256=encoded.tokenizer_sha256,
        max_seq_len=encoded.max_seq_len,
        context=encoded.context,
    )
    return score, documents


def difference(before: Sequence[DocumentScore], after: Sequence[DocumentScore]) -> Difference:
    """What ``after`` needs more than ``before`` (less, when negative): the price of training on, as a number.

    Each document is compared with itself, so the interval is far narrower than those of the two scores.

    Raises:
        UserError: the two are not of the same documents.
    """
    left, right = (sorted(scores, key=lambda score: score.sha256) for scores in (before, after))
    if [score.sha256 for score in left] != [score.sha256 for score in right]:
        raise UserError("texts: the two scores are not of the same documents: they do not compare")
    bits = [(b.nats - a.nats) / log(2) for a, b in zip(left, right, strict=True)]
    sizes = [score.bytes for score in left]
    ratio, interval = ratio_with_interval(bits, sizes)
    return Difference(ratio, interval, len(left), sum(sizes))


def ratio_with_interval(above: Sequence[float], below: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """sum(above) / sum(below), and its 95 % interval over the pairs; None for fewer than two.

    The normal interval of a ratio estimator: the variance of ``above - ratio x below``. Source: Cochran, Sampling
    Techniques, 1977, 6.3.
    """
    ratio, n = sum(above) / sum(below), len(above)
    if n < 2:
        return ratio, None
    squares = sum((top - ratio * bottom) ** 2 for top, bottom in zip(above, below, strict=True))
    half = Z95 * sqrt(n / (n - 1) * squares) / sum(below)
    return ratio, (ratio - half, ratio + half)


def _words(text: str) -> int:
    return len(re.split(r"\s+", text))


def _exp(value: float) -> float | None:
    return exp(value) if value < 700 else None  # text without spaces is one word, of any number of nats


def _texts_sha256(documents: Sequence[DocumentScore]) -> str:
    return hashlib.sha256("".join(sorted(document.sha256 for document in documents)).encode()).hexdigest()
