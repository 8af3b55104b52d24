"""Stage ``verify``: read everything back from ``out``, wherever it lies, and check it. Changes nothing there.

What is checked: the ledger adds up and fits the documents and the dropped records; every document's hash; the
tokenizer is the one that the card names; every shard's size, hashes, number of sequences and range of ids; the counts
of card, index and ``doc_ids``; a sample of documents, decoded from the shards, equals its text; nothing else
lies there.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tokenizers import Tokenizer

from base import storage
from base.errors import UserError
from base.progress import progress, say
from data_prep.documents import DOCUMENTS, DROPPED, LEDGER
from data_prep.shards.packing import SPLITS
from data_prep.shards.stage import CARD, DOC_IDS, SHARDS_A_WORKER
from data_prep.shards.stage import FOLDER as MDS
from data_prep.stage import Job, Stage, digest, remove
from data_prep.tokenizer.stage import FOLDER as TOKENIZER
from data_prep.tokenizer.training import load_tokenizer


class Faults:
    """What is wrong, by the stage that must be done again."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def check(self, holds: bool, stage: str, message: str) -> None:
        """Note the message unless it holds."""
        if not holds:
            self.found.append((stage, message))


@dataclass(frozen=True)
class ShardCheck:
    """One shard to read. ``wanted``: documents that lie wholly in it, as (id, first token in the shard, tokens)."""

    location: str
    entry: dict[str, Any]
    vocab_size: int
    sequence_length: int
    wanted: tuple[tuple[str, int, int], ...]
    folder: Path


def run(job: Job) -> dict[str, Any]:
    """Check everything; raises UserError with all faults, and has the stages at fault done again by the next run."""
    faults = Faults()
    folder = job.work / "verify"
    remove(folder)
    folder.mkdir(parents=True)
    try:
        card, samples = _check_shards(job, faults, folder)
        documents = _check_documents(job, faults, folder, card, samples)
    finally:
        remove(folder)
    if faults.found:
        for stage, _ in faults.found:
            job.forget(stage)
        listing = "\n".join(f"  {message}" for _, message in faults.found)
        raise UserError(
            f"{job.out} is not sound:\n{listing}\nrun the same command again: it does the stages at fault anew"
        )
    say(
        f"verify: {documents} documents, {card['sequences']} sequences, {card['tokens']} tokens are sound; "
        f"{len(samples)} documents decoded from the shards equal their texts"
    )
    return {"documents": documents, "decoded": len(samples)}


def _check_shards(job: Job, faults: Faults, folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.uint16]]]:
    """Returns the card, and the ids of a sample of documents as they stand in the shards (without separator)."""
    root = storage.join(job.out, MDS)
    card = _json(storage.join(root, CARD))
    there = storage.list_files(root)
    known = {CARD}
    checks: list[ShardCheck] = []
    for split in SPLITS:
        index = _json(storage.join(root, split, "index.json"))
        with _local(storage.join(root, split, DOC_IDS), folder) as path:
            doc_ids: dict[str, list[Any]] = {"id": [], "sequence": [], "offset": [], "tokens": []}
            for batch in _batches(path, list(doc_ids), faults, "shards"):
                for column, values in batch.to_pydict().items():
                    doc_ids[column] += values
        known |= {f"{split}/index.json", f"{split}/{DOC_IDS}"}
        numbers, length = card["splits"][split], card["max_seq_len"]
        samples = [entry["samples"] for entry in index["shards"]]
        faults.check(
            sum(samples) == numbers["sequences"] and numbers["sequences"] * length == numbers["tokens"],
            "shards", f"{MDS}/{split}: the index holds {sum(samples)} sequences, the card {numbers['sequences']}",
        )  # fmt: skip
        total = sum(doc_ids["tokens"])
        faults.check(
            len(doc_ids["id"]) == numbers["documents"] and total == numbers["tokens"] + numbers["tail_tokens"],
            "shards", f"{MDS}/{split}/{DOC_IDS}: {len(doc_ids['id'])} documents of {total} tokens do not fit the card",
        )  # fmt: skip
        first = 0
        for entry in index["shards"]:
            basename = (entry["zip_data"] or entry["raw_data"])["basename"]
            known.add(f"{split}/{basename}")
            wanted = _sample(job, doc_ids, card, first, first + entry["samples"], len(index["shards"]))
            location = storage.join(root, split, basename)
            checks.append(ShardCheck(location, entry, card["vocab_size"], length, wanted, folder))
            first += entry["samples"]
    for name in sorted(set(there) - known):
        faults.check(False, "shards", f"{MDS}/{name} does not belong there")
    found: dict[str, NDArray[np.uint16]] = {}
    with progress("verify, shards", len(checks), "shards") as advance:
        at_most = -(-len(checks) // SHARDS_A_WORKER)
        for _, (messages, decoded) in job.executor.map(check_shard, checks, at_most):
            for message in messages:
                faults.check(False, "shards", message)
            found |= decoded
            advance(1)
    return card, found


def _sample(
    job: Job, doc_ids: dict[str, list[Any]], card: dict[str, Any], first: int, last: int, shards: int
) -> tuple[tuple[str, int, int], ...]:
    """Some documents that lie wholly between two sequences, the same ones in every run."""
    length, separators = card["max_seq_len"], int(card["packing"] == "eos")
    starts = np.array(doc_ids["sequence"]) * length + np.array(doc_ids["offset"])
    tokens = np.array(doc_ids["tokens"])
    inside = np.flatnonzero((starts >= first * length) & (starts + tokens <= last * length))
    settings = job.configuration.verify
    number = min(len(inside), -(-settings.documents // shards))
    chosen = np.random.default_rng(settings.seed).choice(inside, number, replace=False) if number else inside[:0]
    return tuple(
        (doc_ids["id"][row], int(starts[row]) - first * length, int(tokens[row]) - separators) for row in chosen
    )


def check_shard(check: ShardCheck) -> tuple[list[str], dict[str, NDArray[np.uint16]]]:
    """Read one shard; returns what is wrong with it, and the ids of the documents asked for."""
    from streaming.base.compression import decompress
    from streaming.base.hashing import get_hash

    entry = check.entry
    stored = entry["zip_data"] or entry["raw_data"]
    try:
        with _local(check.location, check.folder) as path:
            data = path.read_bytes()
    except UserError as error:
        return [str(error)], {}
    if len(data) != stored["bytes"]:
        return [f"{check.location}: {len(data)} bytes, but the index says {stored['bytes']}"], {}
    for algorithm, value in stored["hashes"].items():
        if get_hash(algorithm, data) != value:
            return [f"{check.location}: its {algorithm} is not the one in the index"], {}
    if entry["zip_data"]:
        data = decompress(entry["compression"], data)
    if (holds := int(np.frombuffer(data, np.uint32, 1)[0])) != entry["samples"]:
        return [f"{check.location}: holds {holds} sequences, but the index says {entry['samples']}"], {}
    tokens = _tokens(data, entry["samples"], check.sequence_length)
    messages = []
    if tokens.size and int(tokens.max()) >= check.vocab_size:
        messages.append(f"{check.location}: holds id {tokens.max()}, but the vocabulary has {check.vocab_size}")
    stream = tokens.reshape(-1)
    return messages, {name: stream[begin : begin + number].copy() for name, begin, number in check.wanted}


def _tokens(data: bytes, samples: int, sequence_length: int) -> NDArray[np.uint16]:
    """All sequences of a shard, read with Streaming's own decoder: uint16[samples, sequence_length]."""
    from streaming.base.format.mds.encodings import mds_decode

    offsets = np.frombuffer(data, np.uint32, samples + 1, 4)
    encoding = f"ndarray:uint16:{sequence_length}"
    return np.stack([mds_decode(encoding, data[begin:end]) for begin, end in pairwise(offsets)])


def _check_documents(
    job: Job, faults: Faults, folder: Path, card: dict[str, Any], samples: dict[str, NDArray[np.uint16]]
) -> int:
    """Returns the number of documents."""
    ledger = _json(storage.join(job.out, LEDGER))
    for name, entry in [("total", ledger["total"]), *ledger["files"].items()]:
        adds_up = entry["in"] == entry["kept"] + sum(entry["dropped"].values())
        faults.check(adds_up, "select", f"{LEDGER}: {name}: kept and dropped do not add up to {entry['in']}")
    for key in ("in", "kept"):
        total = sum(entry[key] for entry in ledger["files"].values())
        faults.check(
            total == ledger["total"][key], "select", f"{LEDGER}: {key!r} of the files is not that of the total"
        )

    tokenizer = _tokenizer(job, faults, folder, card)
    seen: set[str] = set()
    number, unsound = 0, 0
    for path in _parquet(job, DOCUMENTS, faults, folder):
        for batch in _batches(path, ["id", "text", "sha256"], faults):
            for name, text, expected in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                unsound += _sha256(text) != expected
                seen.add(name)
                if name in samples:
                    faults.check(
                        tokenizer.decode(samples[name].tolist(), skip_special_tokens=False) == text,
                        "shards", f"{name}: what the shards hold does not decode to its text",
                    )  # fmt: skip
    faults.check(unsound == 0, "select", f"{DOCUMENTS}: {unsound} texts do not fit their sha256")
    faults.check(len(seen) == number, "select", f"{DOCUMENTS}: {number - len(seen)} ids occur more than once")
    faults.check(set(samples) <= seen, "shards", f"{MDS}: holds documents that {DOCUMENTS} does not")
    kept = ledger["total"]["kept"]
    faults.check(number == kept, "select", f"{DOCUMENTS}: {number} documents, but the ledger kept {kept}")
    faults.check(number == card["documents"], "shards", f"{MDS}/{CARD}: {card['documents']} documents, not {number}")
    drops = (batch for path in _parquet(job, DROPPED, faults, folder) for batch in _batches(path, ["id"], faults))
    dropped = sum(len(batch) for batch in drops)
    noted = sum(ledger["total"]["dropped"].values())
    faults.check(dropped == noted, "select", f"{DROPPED}: {dropped} rows, but the ledger dropped {noted}")
    return number


def _tokenizer(job: Job, faults: Faults, folder: Path, card: dict[str, Any]) -> Tokenizer:
    with _local(storage.join(job.out, TOKENIZER, "tokenizer.json"), folder) as path:
        fits = storage.sha256(path) == card["tokenizer_sha256"]
        faults.check(fits, "tokenizer", f"{TOKENIZER}/tokenizer.json is not the one that made the shards")
        local = folder / "tokenizer"
        local.mkdir(exist_ok=True)
        (local / "tokenizer.json").write_bytes(path.read_bytes())
    tokenizer = load_tokenizer(local)
    size = tokenizer.get_vocab_size()
    faults.check(size == card["vocab_size"], "tokenizer", f"{TOKENIZER}: {size} entries, not {card['vocab_size']}")
    return tokenizer


def _parquet(job: Job, name: str, faults: Faults, folder: Path) -> Iterator[Path]:
    root = storage.join(job.out, name)
    for file in storage.list_files(root):
        if not file.endswith(".parquet") or "/" in file or file.startswith("."):
            faults.check(False, "select", f"{name}/{file} does not belong there")
            continue
        with _local(storage.join(root, file), folder) as path:
            yield path


def _batches(path: Path, columns: list[str], faults: Faults, stage: str = "select") -> Iterator[pa.RecordBatch]:
    try:
        yield from pq.ParquetFile(path).iter_batches(columns=columns)
    except (pa.ArrowException, OSError) as error:
        faults.check(False, stage, f"{path.name}: cannot be read as Parquet: {error}")


@contextmanager
def _local(location: str, folder: Path) -> Iterator[Path]:
    """The file itself when it is local; a copy for the length of the block otherwise."""
    if not storage.is_remote(location):
        if not Path(location).is_file():
            raise UserError(f"{location}: no such file")
        yield Path(location)
        return
    copy = folder / digest(location)
    storage.download(location, copy)
    try:
        yield copy
    finally:
        copy.unlink()


def _json(location: str) -> dict[str, Any]:
    try:
        return json.loads(storage.read_bytes(location))
    except ValueError as error:
        raise UserError(f"{location}: not JSON: {error}") from None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


STAGE = Stage("verify", needs=(), depends_on=lambda job: None, run=run, always=True)
