"""Stage ``verify``: read everything back from ``out``, wherever it lies, and check it. Changes nothing there.

What is checked: the ledger adds up and fits the documents and the dropped records, file by file and reason by reason,
and the reports on duplicates and contamination fit it; every document's hash; the tokenizer is the one that the card
names; every shard's size, hashes, number of sequences and range of ids; every document stands in the shards where
``doc_ids`` says, ends there, and lies in the split that the hash of its id says; the counts of card, index and
``doc_ids``, padding included; a sample of documents, decoded from the shards, equals its text; nothing else lies in the
folders of documents, dropped records and shards. Beside these folders anyone may put what they like, such as a README,
and the data card is written after this stage.

Files are read by the executor's workers, which leave hashes of ids in files, so that millions of documents can be
compared: 16 bytes each.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from base import storage
from base.errors import UserError
from base.progress import progress, say
from data_prep.documents import DOCUMENTS, DROPPED, LEDGER
from data_prep.select.stage import CONTAMINATION, DUPLICATES
from data_prep.shards.doc_ids import DOC_IDS
from data_prep.shards.packing import SPLITS
from data_prep.shards.stage import CARD
from data_prep.shards.stage import FOLDER as MDS
from data_prep.stage import Job, Stage, remove
from data_prep.tokenizer.stage import FOLDER as TOKENIZER
from data_prep.tokenizer.training import load_tokenizer
from data_prep.verify.documents import (
    PartCheck,
    PartFound,
    check_documents,
    check_dropped,
    check_ledger,
    check_placed,
    check_reports,
)  # fmt: skip
from data_prep.verify.faults import CannotGoOn, Faults
from data_prep.verify.shards import ShardCheck, ShardFound, check_shard


def run(job: Job) -> dict[str, Any]:
    """Check everything; raises UserError with all faults, and has the stages at fault done again by the next run."""
    faults = Faults()
    folder = job.work / "verify"
    remove(folder)
    folder.mkdir(parents=True)
    summary: dict[str, Any] = {}
    try:
        summary = _check(job, faults, folder)
    except CannotGoOn:
        pass
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
        f"verify: {summary['documents']} documents, {summary['sequences']} sequences, {summary['tokens']} tokens are "
        f"sound; {summary['decoded']} documents decoded from the shards equal their texts"
    )
    return summary


def _check(job: Job, faults: Faults, folder: Path) -> dict[str, Any]:
    card = faults.read_json(storage.join(job.out, MDS, CARD), "shards")
    ledger = faults.read_json(storage.join(job.out, LEDGER), "select")
    tokenizer = _tokenizer(job, faults, folder, card)
    pieces = _check_shards(job, faults, folder, card)
    tasks = {
        "documents": _parts(job, DOCUMENTS, faults, folder, card),
        "dropped": _parts(job, DROPPED, faults, folder, card),
    }
    found: list[PartFound] = []
    with progress("verify, documents", sum(map(len, tasks.values())), "files") as advance:
        for function, checks in ((check_documents, tasks["documents"]), (check_dropped, tasks["dropped"])):
            for _, part in job.executor.map(function, checks):
                found.append(part)
                advance(1)
    for message in sorted(message for part in found for message in part.faults):
        faults.check(False, "select", message)
    check_ledger(ledger, found, faults)
    contamination = storage.join(job.out, CONTAMINATION)
    check_reports(
        ledger, faults.read_json(storage.join(job.out, DUPLICATES), "select"),
        faults.read_json(contamination, "select") if storage.exists(contamination) else None, faults,
    )  # fmt: skip
    documents = _load([check.keys for check in tasks["documents"]])
    check_placed(documents, {split: _load(folder.glob(f"{split}-*.npy")) for split in SPLITS}, card, faults)
    number = len(documents)
    faults.check(number == card["documents"], "shards", f"{MDS}/{CARD}: {card['documents']} documents, not {number}")
    texts = {name: text for part in found for name, text in part.texts.items()}
    _compare(pieces, texts, tokenizer, card, faults)
    return {
        "documents": number,
        "decoded": len(pieces),
        **{name: card[name] for name in ("sequences", "tokens")},
    }


def _check_shards(
    job: Job, faults: Faults, folder: Path, card: dict[str, Any]
) -> dict[str, list[tuple[int, NDArray[np.uint16]]]]:
    """Returns the pieces of a sample of documents as they stand in the shards: id → (first token, ids)."""
    root = storage.join(job.out, MDS)
    known = {CARD}
    checks: dict[str, list[ShardCheck]] = {}
    with ExitStack() as copies:
        for split in SPLITS:
            index = faults.read_json(storage.join(root, split, "index.json"), "shards")
            doc_ids = copies.enter_context(storage.local_copy(storage.join(root, split, DOC_IDS), folder))
            known |= {f"{split}/index.json", f"{split}/{DOC_IDS}"}
            checks[split] = []
            first = 0
            for number, entry in enumerate(index["shards"]):
                basename = (entry["zip_data"] or entry["raw_data"])["basename"]
                known.add(f"{split}/{basename}")
                last = None if number + 1 == len(index["shards"]) else first + entry["samples"]
                checks[split].append(
                    ShardCheck(
                        storage.join(root, split, basename), entry, doc_ids, first, last, card,
                        folder / f"{split}-{number:05d}.npy", *_sample(job, card), folder,
                    )
                )  # fmt: skip
                first += entry["samples"]
            sequences = card["splits"][split]["sequences"]
            faults.check(
                first == sequences, "shards",
                f"{MDS}/{split}: the index holds {first} sequences, the card {sequences}",
            )  # fmt: skip
        for name in sorted(set(storage.list_files(root)) - known):
            faults.check(False, "shards", f"{MDS}/{name} does not belong there")
        everything = [check for split in SPLITS for check in checks[split]]
        found: dict[int, ShardFound] = {}
        with progress("verify, shards", len(everything), "shards") as advance:
            for number, shard in job.executor.map(check_shard, everything):
                found[number] = shard
                advance(1)
    pieces: dict[str, list[tuple[int, NDArray[np.uint16]]]] = {}
    for number in range(len(everything)):
        for message in found[number].faults:
            faults.check(False, "shards", message)
        for name, begin, ids in found[number].pieces:
            pieces.setdefault(name, []).append((begin, ids))
    begun = 0
    for split in SPLITS:
        _check_counts([found[begun + number] for number in range(len(checks[split]))], split, card, faults)
        begun += len(checks[split])
    return pieces


def _check_counts(found: list[ShardFound], split: str, card: dict[str, Any], faults: Faults) -> None:
    """What the pieces of a split add up to, and that none runs into the next shard's."""
    numbers = card["splits"][split]
    tokens = sum(shard.tokens for shard in found)
    faults.check(
        numbers["sequences"] * card["max_seq_len"] == numbers["tokens"]
        and tokens == numbers["tokens"] + numbers["tail_tokens"] - numbers["padding_tokens"],
        "shards", f"{MDS}/{split}/{DOC_IDS}: documents of {tokens} tokens do not fit the counts of the card",
    )  # fmt: skip
    begun = [shard for shard in found if shard.tokens]
    overlap = any(shard.end > following.start for shard, following in pairwise(begun))
    faults.check(not overlap, "shards", f"{MDS}/{split}/{DOC_IDS}: documents of two shards overlap")


def _compare(
    pieces: dict[str, list[tuple[int, NDArray[np.uint16]]]], texts: dict[str, str], tokenizer: Tokenizer,
    card: dict[str, Any], faults: Faults,
) -> None:  # fmt: skip
    """Documents, decoded from the shards, equal their texts."""
    for name, parts in sorted(pieces.items()):
        ids = np.concatenate([piece for _, piece in sorted(parts, key=lambda part: part[0])])
        if card["packing"] != "concat" and ids[-1] == card["eos_id"]:
            ids = ids[:-1]
        same = tokenizer.decode(ids.tolist(), skip_special_tokens=False) == texts.get(name)
        faults.check(same, "shards", f"{name}: what the shards hold does not decode to its text")


def _sample(job: Job, card: dict[str, Any]) -> tuple[int, int]:
    """Below which hash a document is decoded, so that about ``verify.documents`` are, and by which seed."""
    settings = job.configuration.verify
    return min(2**64 - 1, settings.documents * 2**64 // max(1, card["documents"])), settings.seed


def _parts(job: Job, name: str, faults: Faults, folder: Path, card: dict[str, Any]) -> list[PartCheck]:
    root = storage.join(job.out, name)
    checks = []
    for number, file in enumerate(sorted(storage.list_files(root))):
        if file.endswith(".parquet") and "/" not in file and not file.startswith("."):
            keys = folder / f"{name}-{number:05d}.npy"
            checks.append(PartCheck(storage.join(root, file), keys, *_sample(job, card), folder))
        else:
            faults.check(False, "select", f"{name}/{file} does not belong there")
    return checks


def _load(paths: Iterator[Path] | list[Path]) -> NDArray[np.uint64]:
    return np.concatenate([np.empty((0, 2), dtype=np.uint64), *map(np.load, paths)])


def _tokenizer(job: Job, faults: Faults, folder: Path, card: dict[str, Any]) -> Tokenizer:
    with storage.local_copy(storage.join(job.out, TOKENIZER, "tokenizer.json"), folder) as path:
        fits = storage.sha256(path) == card["tokenizer_sha256"]
        faults.check(fits, "tokenizer", f"{TOKENIZER}/tokenizer.json is not the one that made the shards")
        local = folder / "tokenizer"
        local.mkdir(exist_ok=True)
        (local / "tokenizer.json").write_bytes(path.read_bytes())
    tokenizer = load_tokenizer(local)
    size = tokenizer.get_vocab_size()
    faults.check(size == card["vocab_size"], "tokenizer", f"{TOKENIZER}: {size} entries, not {card['vocab_size']}")
    return tokenizer


STAGE = Stage("verify", needs=(), depends_on=lambda job: None, run=run, always=True)
