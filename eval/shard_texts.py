"""A split of shards (``OUT/mds/val``) back into the documents that it was made from, byte for byte.

A model with another tokenizer can then be measured on the very text that was held out. Where each document lies is
told by ``doc_ids.parquet`` beside the shards, whatever the packing: in the stream alone, ``<|endoftext|>`` is also what
fills a sequence up (``best_fit``), stands nowhere (``concat``), and does not say which parts of a long document belong
together. What was dropped with the tail behind the last whole sequence has no text here: such documents are refused.

Formats: ``data_prep/shards/mds.py``, ``doc_ids.py`` and ``packing.py``.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base import storage
from base.errors import UserError
from eval.prompts import BEGINNING_OF_TEXT
from eval.task import BadRow

INDEX, DOC_IDS, CARD = "index.json", "doc_ids.parquet", "card.json"
COLUMN = "tokens"
NOT_OF_THESE = f"{DOC_IDS} or the tokenizer is not of these shards"

Piece = tuple[int, int, int]
"""First token among those of its document, place in the stream, tokens."""


@dataclass(frozen=True)
class Read:
    """What was found of a document: its id, its place, and its text or why it has none."""

    id: str
    place: str
    text: str | BadRow


@dataclass(frozen=True)
class Vocabulary:
    """The bytes that each id stands for, by id (None: nothing), and the id that ends a document."""

    bytes_of: list[bytes | None]
    end_of_text: int


def read_split(folder: str, names: set[str], tokenizer: str | None) -> Iterator[Read]:
    """The documents of a split, in the order in which they first appear in it. The whole split is held in memory.

    Args:
        folder: local or s3://.
        names: of the files in it.
        tokenizer: the folder of the tokenizer that wrote the shards; None: ``tokenizer`` beside the folder ``mds``.

    Raises:
        UserError: these are no shards of ``data_prep``, a file is missing or damaged, or the tokenizer is another one.
    """
    if DOC_IDS not in names:
        raise UserError(
            f"{folder}: has no {DOC_IDS}, which says where documents begin and end in shards that data_prep has "
            "written; give the texts themselves (.parquet, .jsonl or .txt)"
        )
    vocabulary = _vocabulary(tokenizer or storage.join(_above(folder, 2), "tokenizer"), folder)
    entries, length = _index(folder)
    stream = np.concatenate([np.empty(0, np.uint16), *(_shard(folder, names, entry, length) for entry in entries)])
    documents = _pieces(storage.join(folder, DOC_IDS), length)
    end = max((start + tokens for pieces in documents.values() for _, start, tokens in pieces), default=0)
    if abs(end - len(stream)) >= length:  # one sequence at most is padded or dropped behind the last document
        raise UserError(
            f"{folder}: {DOC_IDS} tells of {end:,} tokens and the shards hold {len(stream):,}: {NOT_OF_THESE}"
        )
    marked = bool((stream == vocabulary.end_of_text).any())  # not so with packing concat
    for id, pieces in documents.items():
        yield Read(id, f"{DOC_IDS} {id}", _text(stream, pieces, vocabulary, length if marked else None))


def _index(folder: str) -> tuple[list[dict[str, Any]], int]:
    """The entries of the shards, and how many tokens their sequences have."""
    place = storage.join(folder, INDEX)
    try:
        entries = list(json.loads(storage.read_bytes(place))["shards"])
        columns = {(*entry["column_names"], *entry["column_encodings"]) for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place}: not the index of shards: {error!r}") from error
    if len(columns) != 1 or not (form := re.fullmatch(rf"{COLUMN} ndarray:uint16:(\d+)", " ".join(columns.pop()))):
        raise UserError(f"{place}: not of shards with the one column {COLUMN} of ndarray:uint16:LENGTH, as data_prep's")
    return entries, int(form[1])


def _shard(folder: str, names: set[str], entry: dict[str, Any], length: int) -> NDArray[np.uint16]:
    """The ids of one shard, uint16[samples x length], when it is what the index says of it."""
    forms = [entry[form] for form in ("raw_data", "zip_data") if entry[form] and entry[form]["basename"] in names]
    if not forms:
        raise UserError(f"{folder}: {entry['raw_data']['basename']} of its {INDEX} is not there")
    location = storage.join(folder, forms[0]["basename"])
    data = storage.read_bytes(location)
    told = {name: value for name, value in forms[0]["hashes"].items() if name in hashlib.algorithms_guaranteed}
    if len(data) != forms[0]["bytes"] or any(hashlib.new(name, data).hexdigest() != told[name] for name in told):
        raise UserError(
            f"{location}: is not what {INDEX} says of it: `python -m data_prep … verify` looks at all shards"
        )
    if forms[0] is entry["zip_data"]:
        if entry["compression"] != "zstd":
            raise UserError(f"{location}: is packed with {entry['compression']}; data_prep packs with zstd")
        import zstd  # what Streaming unpacks with

        data = zstd.decompress(data)
    return np.frombuffer(data, np.uint16, entry["samples"] * length, int(np.frombuffer(data, np.uint32, 1, 4)[0]))


def _pieces(location: str, length: int) -> dict[str, list[Piece]]:
    """The pieces of each document, in their order."""
    with tempfile.TemporaryDirectory() as temporary, storage.local_copy(location, Path(temporary)) as path:
        try:
            rows = pq.read_table(path, columns=["id", "sequence", "offset", "tokens", "begin"])
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{location}: cannot be read as what data_prep writes beside shards: {error}") from error
    start = rows["sequence"].to_numpy() * length + rows["offset"].to_numpy()
    columns = (rows["begin"].to_pylist(), start.tolist(), rows["tokens"].to_pylist())
    found: dict[str, list[Piece]] = {}
    for id, *piece in zip(rows["id"].to_pylist(), *columns, strict=True):
        found.setdefault(id, []).append((piece[0], piece[1], piece[2]))
    return {id: sorted(pieces) for id, pieces in found.items()}


def _text(
    stream: NDArray[np.uint16], pieces: Sequence[Piece], vocabulary: Vocabulary, marked: int | None
) -> str | BadRow:
    """The text of a document. ``marked``: the sequence length, where <|endoftext|> ends each document, unless its last
    piece fills a sequence."""
    ids: list[int] = []
    for begin, start, tokens in pieces:
        if begin != len(ids):
            return BadRow(f"its tokens {len(ids):,} to {begin:,} are not in {DOC_IDS}")
        if start + tokens > len(stream):
            return BadRow("its end lies behind the last whole sequence, where shards hold nothing")
        ids += stream[start : start + tokens].tolist()
    if ids and ids[-1] == vocabulary.end_of_text:
        ids.pop()
    elif marked is not None and pieces[-1][2] != marked:
        return BadRow(f"does not end where {DOC_IDS} says: {NOT_OF_THESE}")
    table = vocabulary.bytes_of
    parts = [table[id] if id < len(table) else None for id in ids]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return BadRow(f"holds the id {ids[parts.index(None)]}, which stands for no text: {NOT_OF_THESE}")
    try:
        text = b"".join(whole).decode()
    except UnicodeDecodeError:
        return BadRow(f"its tokens are no UTF-8: {NOT_OF_THESE}")
    return text if text.strip() else BadRow("text is empty")


def _vocabulary(tokenizer: str, folder: str) -> Vocabulary:
    place = storage.join(tokenizer, "tokenizer.json")
    if not storage.exists(place):
        raise UserError(f"{place}: no such file; it takes the tokenizer that wrote {folder} to read its texts")
    data = storage.read_bytes(place)
    card = storage.join(_above(folder, 1), CARD)
    if storage.exists(card) and json.loads(storage.read_bytes(card)).get("tokenizer_sha256") != _sha256(data):
        raise UserError(f"{place}: is not the tokenizer that wrote {folder}, whose hash is in {card}")
    try:
        content = json.loads(data)
        entries, added = content["model"]["vocab"], content["added_tokens"]
        byte_level = (content.get("decoder") or {}).get("type") == "ByteLevel" and not content.get("normalizer")
        ends = [token["id"] for token in added if token["content"] == BEGINNING_OF_TEXT]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place}: not a tokenizer: {error!r}") from error
    if not byte_level or not ends:
        raise UserError(
            f"{place}: is not byte-level with a {BEGINNING_OF_TEXT}, so that bytes cannot be had back from ids; give "
            "the texts themselves (.parquet, .jsonl or .txt)"
        )
    byte = {character: bytes([number]) for number, character in enumerate(_byte_characters())}
    special = {token["id"] for token in added}
    bytes_of: list[bytes | None] = [None] * (1 + max([*entries.values(), *special]))
    for token, id in entries.items():
        if id not in special:  # data_prep never writes one into a document: what a document quotes is text
            bytes_of[id] = b"".join(byte[character] for character in token)
    return Vocabulary(bytes_of, ends[0])


def _byte_characters() -> str:
    """The character that stands for each byte in a byte-level vocabulary: itself, or the next after U+00FF where it
    would be a space or unprintable. Source: GPT-2's encoder (Radford et al. 2019)."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in shown else next(others)) for byte in range(256))


def _above(folder: str, levels: int) -> str:
    if storage.is_remote(folder):
        return folder.rstrip("/").rsplit("/", levels)[0]
    return os.path.normpath(os.path.join(os.path.abspath(folder), *[".."] * levels))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
