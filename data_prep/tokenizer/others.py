"""Tokenizers to measure, ours and others', behind one face: how many tokens a text takes, into what a word falls."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer, models, pre_tokenizers

from base.errors import UserError
from data_prep.tokenizer.ready import built, read_files

UNKNOWN = "<unk>"
END_OF_WORD = "</w>"


class Measured(Protocol):
    """A tokenizer that is measured."""

    vocab_size: int

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of all these texts."""
        ...

    def pieces(self, terms: Sequence[str]) -> list[list[str]]:
        """Into what each term falls where it stands inside a sentence, after a space."""
        ...


class ByteLevel:
    """A byte-level BPE, as GPT-2's, GPT-NeoX's and ours."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()

    def count(self, texts: Sequence[str]) -> int:
        """See :class:`Measured`."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return sum(len(encoding) for encoding in encodings)

    def pieces(self, terms: Sequence[str]) -> list[list[str]]:
        """See :class:`Measured`. A piece begins with a space where a word begins."""
        encodings = self._tokenizer.encode_batch([f" {term}" for term in terms], add_special_tokens=False)
        return [[_text(token) for token in encoding.tokens] for encoding in encodings]


class Moses:
    """BioGPT's: words by the rules of the Moses tokenizer, each cut by a BPE of its own characters.

    ``bpecodes`` is a list of merges as fastBPE writes it; what is not in ``dict.txt`` would be ``<unk>`` to the model,
    but counts as the pieces that it is. Of the Moses rules, the list of English abbreviations that keep their full stop
    is left out, which moves a full stop to a token of its own here and there.
    """

    def __init__(self, codes: Path, dictionary: Path):
        merges = [tuple(line.split(" ")[:2]) for line in codes.read_text(encoding="utf-8").splitlines() if line]
        pieces = [*(piece for merge in merges for piece in merge), *("".join(merge) for merge in merges)]
        known = [line.split(" ")[0] for line in dictionary.read_text(encoding="utf-8").splitlines()]
        letters = {letter for piece in (*pieces, *known) for letter in piece.removesuffix(END_OF_WORD)}
        vocabulary = [UNKNOWN, *sorted(letters), *sorted(letter + END_OF_WORD for letter in letters), *pieces]
        ids = {piece: index for index, piece in enumerate(dict.fromkeys(vocabulary))}
        model = models.BPE(vocab=ids, merges=merges, end_of_word_suffix=END_OF_WORD, unk_token=UNKNOWN)
        self._tokenizer = Tokenizer(model)
        self._tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
        self.vocab_size = len(known) + 4  # fairseq adds four of its own

    def count(self, texts: Sequence[str]) -> int:
        """See :class:`Measured`."""
        encodings = self._tokenizer.encode_batch_fast([moses(text) for text in texts], add_special_tokens=False)
        return sum(len(encoding) for encoding in encodings)

    def pieces(self, terms: Sequence[str]) -> list[list[str]]:
        """See :class:`Measured`."""
        encodings = self._tokenizer.encode_batch([moses(term) for term in terms], add_special_tokens=False)
        return [[token.replace(END_OF_WORD, " ") for token in encoding.tokens] for encoding in encodings]


# The rules of the Moses tokenizer for English with aggressive hyphens, in its order.
_MOSES = [
    (re.compile(r"[\x00-\x1f]"), " "),
    (re.compile(r"([^\w\s.'`,\-]|_)"), r" \1 "),
    (re.compile(r"(?<=[^\W_])-(?=[^\W_])"), " @-@ "),
    (re.compile(r"(\.{2,})"), r" \1 "),
    (re.compile(r"(?<!\d),|,(?!\d)"), " , "),
    (re.compile(r"(?<![^\W\d_])'|'(?![^\W\d_])"), " ' "),
    (re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])"), " '"),
    (re.compile(r"(?<=[^\s.])\.(?=\s*$|\s+[^\sa-z])"), " ."),
]
_ESCAPES = (
    ("&", "&amp;"), ("|", "&#124;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&apos;"), ('"', "&quot;"), ("[", "&#91;"),
    ("]", "&#93;"),
)  # fmt: skip


def moses(text: str) -> str:
    """The words of a text, with spaces between, as the Moses tokenizer has them."""
    for pattern, replacement in _MOSES:
        text = pattern.sub(replacement, text)
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text


def load_other(name: str, place: str) -> Measured:
    """Another tokenizer to compare with: a folder with ``tokenizer.json``, ``vocab.json`` and ``merges.txt``, or
    ``bpecodes`` and ``dict.txt``.

    Raises:
        UserError: none of these is there.
    """
    if files := read_files(place):
        return ByteLevel(built(place, files))
    codes, dictionary = Path(place, "bpecodes"), Path(place, "dict.txt")
    if codes.is_file() and dictionary.is_file():
        return Moses(codes, dictionary)
    raise UserError(
        f"tokenizer.compare_with.{name}: {place} holds neither tokenizer.json, nor vocab.json and merges.txt, nor "
        "bpecodes and dict.txt"
    )


def _alphabet() -> dict[str, int]:
    """The letters by which a byte-level tokenizer writes bytes: those that print stand for themselves."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _alphabet()


def _text(token: str) -> str:
    if all(letter in _BYTES for letter in token):
        return bytes(_BYTES[letter] for letter in token).decode("utf-8", "replace")
    return token  # an added token, such as GPT-NeoX's runs of spaces
