"""Texts whose likelihood is measured: a set of documents, from files or from shards. No model and no torch here.

The path of a document: its file → :class:`Document`, or :class:`Refused` with the reason. Every document of a place
ends in one of the two, or is left out by the limit, which is counted.
"""

import glob
import gzip
import hashlib
import heapq
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from base import storage
from base.errors import UserError
from eval.official_files import json_lines
from eval.shard_texts import INDEX, Read, read_split
from eval.task import BadRow, Refused, first_few, require_text

TEXT = "text"  # the field, or column, that holds a document
KINDS = (".txt", ".jsonl", ".jsonl.gz", ".parquet")
ROWS = 1000  # of Parquet, read at a time


@dataclass(frozen=True)
class Document:
    """One document. ``id`` is its own where it has one, else its place; ``sha256`` is of its UTF-8, ``bytes`` long."""

    id: str
    text: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Texts:
    """A named set of documents.

    Attributes:
        documents: those to measure, in the order of their hashes.
        refused: what cannot be measured, of all that the place holds.
        documents_found, bytes_found: what there was before the limit.
    """

    name: str
    place: str
    documents: tuple[Document, ...]
    refused: tuple[Refused, ...]
    documents_found: int
    bytes_found: int
    limit_bytes: int | None = None

    @property
    def bytes(self) -> int:
        return sum(document.bytes for document in self.documents)

    def describe(self) -> str:
        """``held_out: 120 of 1,336 documents, 200,114 bytes, from PLACE; 1 refused: FILE line 3: text is empty``"""
        some = f"{len(self.documents):,} of " if len(self.documents) < self.documents_found else ""
        text = f"{self.name}: {some}{self.documents_found:,} documents, {self.bytes:,} bytes, from {self.place}"
        return f"{text}; {_told(self.refused)}" if self.refused else text


def load_texts(name: str, place: str, limit_bytes: int | None = None, tokenizer: str | None = None) -> Texts:
    """Read a set of texts.

    Args:
        name: of the set, in results.
        place: local or s3://. A ``.txt`` is one document; each line of ``.jsonl`` and ``.jsonl.gz`` holds one as
            ``text``, each row of ``.parquet`` as well, as in ``OUT/documents``. A folder or a glob of these (``*``
            stays within a folder). Or a split of shards, such as ``OUT/mds/val``, whose documents are put together
            again.
        limit_bytes: keeps the documents whose contents hash lowest until they have so many bytes, the last one whole:
            the same ones in any order of files, and a smaller limit keeps a part of what a larger one keeps.
        tokenizer: the folder of the tokenizer that wrote the shards; None: ``OUT/tokenizer``.

    Raises:
        UserError: there is no such place, or no document in it that can be measured.
    """
    if limit_bytes is not None and limit_bytes < 1:
        raise UserError(f"texts_limit_bytes: must be at least 1 byte; it is {limit_bytes}")
    refused: list[Refused] = []
    kept = _LowestHashes(limit_bytes)
    for read in _read(place, tokenizer):
        if isinstance(read.text, BadRow):
            refused.append(Refused(read.id, read.place, str(read.text)))
        else:
            data = read.text.encode()
            kept.add(Document(read.id, read.text, hashlib.sha256(data).hexdigest(), len(data)))
    if not kept.seen:
        raise UserError(f"{place}: holds no text to measure: {_told(refused) if refused else 'it is empty'}")
    return Texts(name, place, kept.documents(), tuple(refused), kept.seen, kept.bytes_seen, limit_bytes)


class _LowestHashes:
    """Of the documents added, those that hash lowest: as many as it takes to have ``limit`` bytes."""

    def __init__(self, limit: int | None):
        self.limit = limit
        self.seen = self.bytes_seen = self._bytes = 0
        self._heap: list[tuple[int, int, Document]] = []  # the highest hash first; of equal ones the last

    def add(self, document: Document) -> None:
        self.seen += 1
        self.bytes_seen += document.bytes
        self._bytes += document.bytes
        heapq.heappush(self._heap, (-int(document.sha256, 16), -self.seen, document))
        while self.limit is not None and self._bytes - self._heap[0][2].bytes >= self.limit:
            self._bytes -= heapq.heappop(self._heap)[2].bytes

    def documents(self) -> tuple[Document, ...]:
        return tuple(document for _, _, document in sorted(self._heap, reverse=True))


# --- files -------------------------------------------------------------------------------------------------------


def _read(place: str, tokenizer: str | None) -> Iterator[Read]:
    if storage.exists(place):
        yield from _read_file(place, place.rpartition("/")[2])
        return
    root, names = place, list(storage.list_files(place))
    if glob.has_magic(place) and not names:
        root, names = _matching(place)
    if INDEX in names:
        yield from read_split(root, set(names), tokenizer)
        return
    splits = sorted(name.removesuffix(f"/{INDEX}") for name in names if name.endswith(f"/{INDEX}"))
    if splits:
        raise UserError(f"{place}: holds shards in {', '.join(splits)}; give one of these folders")
    if not names:
        raise UserError(f"{place}: no such file or folder, or nothing in it")
    for name in names:
        yield from _read_file(storage.join(root, name), name)


def _matching(pattern: str) -> tuple[str, list[str]]:
    """The folder before the first part with a wildcard, and what fits below it."""
    parts = pattern.split("/")
    fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root, wild = "/".join(parts[:fixed]) or ("/" if pattern.startswith("/") else "."), parts[fixed:]
    return root, [
        name
        for name in storage.list_files(root)
        if len(found := name.split("/")) == len(wild) and all(map(fnmatchcase, found, wild))
    ]


def _read_file(location: str, name: str) -> Iterator[Read]:
    """The documents of one file; what is wrong with the file as a whole is its one entry."""
    try:
        if name.endswith(".parquet"):
            yield from _read_parquet(location, name)
        elif name.endswith(".txt"):
            yield Read(name, name, _decoded(storage.read_bytes(location)))
        elif name.endswith(KINDS):
            data = storage.read_bytes(location)
            yield from _read_json_lines(gzip.decompress(data) if name.endswith(".gz") else data, name)
        else:
            yield Read(name, name, BadRow(f"is none of {', '.join(KINDS)}"))
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        yield Read(name, name, BadRow(f"cannot be read: {error}"))


def _read_json_lines(content: bytes, name: str) -> Iterator[Read]:
    for line, row in json_lines(content):
        place = f"{name} {line}"
        if isinstance(row, BadRow):
            yield Read(place, place, row)
        else:
            yield Read(_id(row.get("id"), place), place, _text(row.get(TEXT)))


def _read_parquet(location: str, name: str) -> Iterator[Read]:
    with (
        tempfile.TemporaryDirectory() as temporary,
        storage.local_copy(location, Path(temporary)) as path,
        pq.ParquetFile(path) as file,
    ):
        columns = {field.name: field.type for field in file.schema_arrow}
        if columns.get(TEXT) not in (pa.string(), pa.large_string()):
            told = f"is {columns[TEXT]}, not strings" if TEXT in columns else f"is not among {', '.join(columns)}"
            yield Read(name, name, BadRow(f"its column {TEXT} {told}"))
            return
        number = 0
        for batch in file.iter_batches(ROWS, columns=[key for key in ("id", TEXT) if key in columns]):
            ids = batch["id"].to_pylist() if "id" in columns else [None] * len(batch)
            # As bytes: one that is not UTF-8 would take its whole batch with it.
            for id, data in zip(ids, batch[TEXT].cast(pa.large_binary()).to_pylist(), strict=True):
                number += 1
                place = f"{name} row {number}"
                yield Read(_id(id, place), place, _text(None) if data is None else _decoded(data))


def _decoded(data: bytes) -> str | BadRow:
    try:
        return _text(data.removeprefix(b"\xef\xbb\xbf").decode())
    except UnicodeDecodeError as error:
        return BadRow(f"not UTF-8: {error.reason} at byte {error.start:,}")


def _text(value: Any) -> str | BadRow:
    if value is None:
        return BadRow(f"has no {TEXT}")
    if not isinstance(value, str):
        return BadRow(f"{TEXT} is not text but a {type(value).__name__}")  # its content may be long
    try:
        return require_text(value, TEXT)
    except BadRow as reason:
        return reason


def _id(given: Any, place: str) -> str:
    return given if isinstance(given, str) and given else place


def _told(refused: tuple[Refused, ...] | list[Refused]) -> str:
    return f"{len(refused):,} refused: {first_few([f'{entry.place}: {entry.reason}' for entry in refused])}"
