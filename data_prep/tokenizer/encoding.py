"""Documents → token ids, fast and exact.

The reference is Hugging Face's ``tokenizers``. ``gigatoken`` gives the same ids some fifty times faster, with one known
exception: its tables hold the letters and digits of Unicode 17, the reference's do not, so the two cut words apart in
different places around those characters. Documents that hold one of them go to the reference. Whoever encodes a corpus
also compares a sample of it with the reference (:func:`data_prep.shards.tokenise.tokenise_part`).
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.tokenizer.training import load_tokenizer

Ids = NDArray[np.uint32]
Lengths = NDArray[np.int32]
# gigatoken remembers every word that it has met. Text with many new ones makes it grow without end, so it is loaded
# again when the process has grown by so many bytes; that costs a tenth of a second.
REMEMBERED = 200 << 20
PIECE = 1 << 20  # characters given to tokenizers at a time: what it returns takes a hundred times as much memory
LONE_SPACE = re.compile(r"(?<=\S) (?=\S)")
SPACE = re.compile(r"\s*")
# First and last code points of the ranges in which gigatoken 0.10.0 sees letters or digits and tokenizers 0.21.4 does
# not; a test goes through all of Unicode.
UNLIKE = (
    (0x088F, 0x088F), (0x0C5C, 0x0C5C), (0x0CDC, 0x0CDC), (0xA7CE, 0xA7CF), (0xA7D2, 0xA7D2), (0xA7D4, 0xA7D4),
    (0xA7F1, 0xA7F1), (0x10940, 0x10959), (0x10EC5, 0x10EC7), (0x11DB0, 0x11DDB), (0x11DE0, 0x11DE9),
    (0x16EA0, 0x16EB8), (0x16EBB, 0x16ED3), (0x16FF2, 0x16FF6), (0x187F8, 0x187FF), (0x18D09, 0x18D1E),
    (0x18D80, 0x18DF2), (0x1E6C0, 0x1E6DE), (0x1E6E0, 0x1E6E2), (0x1E6E4, 0x1E6E5), (0x1E6E7, 0x1E6ED),
    (0x1E6F0, 0x1E6F4), (0x1E6FE, 0x1E6FF), (0x2B73A, 0x2B73F), (0x2CEA2, 0x2CEAD), (0x323B0, 0x33479),
)  # fmt: skip
_UNLIKE = "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in UNLIKE) + "]"


class Encoder(Protocol):
    """Turns texts into ids. The text ``<|endoftext|>`` is text like any other."""

    engine: str  # what the work is done with, and its version

    def encode(self, texts: pa.Array) -> tuple[Ids, Lengths]:
        """The ids of all texts (strings, none null) end to end, and how many each has. One thread."""
        ...


class Reference:
    """Hugging Face's ``tokenizers``."""

    def __init__(self, folder: Path):
        self._tokenizer = load_tokenizer(folder)
        self.vocab_size = self._tokenizer.get_vocab_size()
        self.engine = f"tokenizers {version('tokenizers')}"

    def encode(self, texts: pa.Array) -> tuple[Ids, Lengths]:
        """See :class:`Encoder`; several threads, unless ``TOKENIZERS_PARALLELISM`` is false."""
        ids = [np.empty(0, dtype=np.uint32)]
        lengths = np.zeros(len(texts), dtype=np.int32)
        for batch in _batches(texts.to_pylist()):
            encodings = self._tokenizer.encode_batch_fast([piece for _, piece in batch], add_special_tokens=False)
            for (number, _), encoding in zip(batch, encodings, strict=True):
                ids.append(np.array(encoding.ids, dtype=np.uint32))
                lengths[number] += len(ids[-1])
        return np.concatenate(ids), lengths


def _without_added_tokens(description: str) -> str:
    """tokenizer.json without its special token: what a document quotes is text.

    Only that list is read: the whole, with 28,896 entries and as many merges, takes a twentieth of a second.
    """
    key = '"added_tokens":'
    start = description.index(key) + len(key)  # before the vocabulary, where an entry may be called so
    start = SPACE.match(description, start).end()  # type: ignore[union-attr] # it matches nothing too
    _, end = json.JSONDecoder().raw_decode(description, start)
    return f"{description[:start]}[]{description[end:]}"


class Gigatoken:
    """``gigatoken``, with ``reference`` for the documents that it would cut otherwise.

    Raises:
        ImportError: it is not installed.
        Exception: it cannot read this tokenizer.
    """

    def __init__(self, folder: Path, reference: Reference):
        self._description = _without_added_tokens((folder / "tokenizer.json").read_text(encoding="utf-8"))
        self._reference = reference
        self._process = psutil.Process()
        self._load()
        self.engine = f"gigatoken {version('gigatoken')}"

    def _load(self) -> None:
        import gigatoken

        self._tokenizer: Any = None  # its memory is given back before it is loaded again
        self._tokenizer = gigatoken.Tokenizer.from_json(self._description)
        self._loaded_at = self._process.memory_info().rss

    def encode(self, texts: pa.Array) -> tuple[Ids, Lengths]:
        """See :class:`Encoder`."""
        if self._process.memory_info().rss - self._loaded_at > REMEMBERED:
            self._load()
        # As bytes: the text lies there as UTF-8 already.
        batch = self._tokenizer.encode_batch(texts.cast(pa.binary()).to_pylist(), parallel=False).layout
        ids, ends = batch.content.data, np.asarray(batch.offsets)
        beyond_ascii = np.flatnonzero(pc.invert(pc.string_is_ascii(texts)))  # a twentieth of abstracts
        unlike = beyond_ascii[np.flatnonzero(pc.match_substring_regex(texts.take(pa.array(beyond_ascii)), _UNLIKE))]
        if not len(unlike):
            return ids, np.diff(ends).astype(np.int32)
        by_document = np.split(ids, ends[1:-1])
        for row in unlike:
            by_document[row] = self._reference.encode(texts.slice(row, 1))[0]
        return _joined(by_document)


def _batches(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """The texts, or pieces of long ones, with the number of the text: about PIECE characters at a time."""
    batch: list[tuple[int, str]] = []
    size = 0
    for number, text in enumerate(texts):
        for piece in pieces(text):
            batch.append((number, piece))
            size += len(piece)
            if size >= PIECE:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def pieces(text: str) -> Iterator[str]:
    """A long text cut before spaces that stand alone, where no word of a byte-level tokenizer goes on."""
    begin = 0
    while len(text) - begin > PIECE and (cut := LONE_SPACE.search(text, begin + PIECE)):
        yield text[begin : cut.start()]
        begin = cut.start()
    yield text[begin:]


def _joined(by_document: list[Ids]) -> tuple[Ids, Lengths]:
    lengths = np.array([len(ids) for ids in by_document], dtype=np.int32)
    return np.concatenate([np.empty(0, dtype=np.uint32), *by_document]), lengths


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Every entry of a tokenizer with its id, special ones too; four times as fast as to load it."""
    description = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return description["model"]["vocab"] | {added["content"]: added["id"] for added in description["added_tokens"]}


@lru_cache(maxsize=1)  # loading takes as long as encoding a megabyte, and a worker has many files
def load_encoders(folder: Path, sha256: str) -> tuple[Reference, Gigatoken | None, str]:
    """The reference; gigatoken, or None; and why not. ``sha256`` is that of ``tokenizer.json`` in the folder."""
    reference = Reference(folder)
    try:
        return reference, Gigatoken(folder, reference), ""
    except ImportError:
        return reference, None, "gigatoken is not installed"
    except Exception as error:  # whatever it has against the file: the reference can read it, and the run will say so
        return reference, None, f"gigatoken does not load this tokenizer: {error}"
