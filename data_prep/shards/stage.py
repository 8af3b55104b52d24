"""Stage ``shards``: documents → packed sequences of token ids in MDS (``OUT/mds/{train,val}``), ``OUT/mds/card.json``.

A shard holds a fixed number of sequences, so its bytes depend on its place alone, and any number of workers writes the
same files. Streaming's own writer makes each shard; its entries are then put together into one ``index.json`` a split.
Beside it lies ``doc_ids.parquet``, one row a document in the order of the stream:

==============  ==============================================================================
id              of the document
sequence        in which it starts; it may lie behind the last sequence, in the dropped tail
offset          of its first token in that sequence
tokens          with its separator; it goes on in the sequences that follow
==============  ==============================================================================

The names of ``card.json`` are in :func:`_card`; the training refuses shards whose tokenizer is not the one it is given.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from base.progress import progress, say
from base.storage import sha256
from data_prep.documents import DOCUMENTS, parts
from data_prep.shards.packing import SPLITS, Documents, Layout, cut, lay_out, split_documents
from data_prep.shards.tokenise import ids_path, lengths_path, tokenise
from data_prep.stage import Job, Stage, digest, remove
from data_prep.tokenizer.stage import FOLDER as TOKENIZER
from data_prep.tokenizer.training import END_OF_TEXT, load_tokenizer

VERSION = 1
FOLDER, CARD, DOC_IDS = "mds", "card.json", "doc_ids.parquet"
COLUMN = "tokens"
HEADER = 4096  # bytes of a shard that are neither samples nor their offsets, at most
SHARDS_A_WORKER = 4  # importing Streaming takes seconds: a further process must be worth it


@dataclass(frozen=True)
class ShardTask:
    """One shard: sequences ``first`` to ``last - 1`` of a split."""

    target: Path
    layout: Path
    ids: tuple[Path, ...]
    first: int
    last: int
    sequence_length: int
    separator: tuple[int, ...]
    size_limit: int
    hashes: tuple[str, ...]
    compression: str | None


def run(job: Job) -> dict[str, Any]:
    """Tokenise, lay out, write the shards, put them together."""
    settings = job.configuration.shards
    tokenizer_hash = sha256(job.local / TOKENIZER / "tokenizer.json")
    tokens = tokenise(job, digest([VERSION, job.marker("select")["key"], tokenizer_hash]))
    tokenizer = load_tokenizer(job.local / TOKENIZER)
    eos = tokenizer.token_to_id(END_OF_TEXT)
    separator = (eos,) if settings.packing == "eos" else ()
    work = job.work / f"shards-{digest([VERSION, tokens.name, settings.model_dump()])}"
    _remove_others(work)

    part_files = parts(job.local / DOCUMENTS)
    identifiers = pa.chunked_array(
        [chunk for part in part_files for chunk in pq.read_table(part, columns=["id"])["id"].chunks], type=pa.string()
    )
    layouts, added = _layouts(job, tokens, part_files, identifiers, len(separator))
    tasks: dict[str, list[ShardTask]] = {}
    for split, layout in layouts.items():
        layout.save(work / split)
        per_shard = max(1, (settings.size_limit - HEADER) // (2 * settings.max_seq_len + 4))
        tasks[split] = [
            ShardTask(
                work / split / f"{number:05d}", work / split, tuple(ids_path(tokens, part) for part in part_files),
                first, min(first + per_shard, layout.sequences), settings.max_seq_len, separator,
                settings.size_limit, tuple(sorted(settings.hashes)), settings.compression,
            )
            for number, first in enumerate(range(0, layout.sequences, per_shard))
        ]  # fmt: skip
    everything = [task for split in SPLITS for task in tasks[split]]
    waiting = [task for task in everything if not _entry(task)]
    with progress("shards, write", sum(task.last - task.first for task in waiting), "sequences") as advance:
        at_most = -(-len(waiting) // SHARDS_A_WORKER)
        for index, _ in job.executor.map(write_shard, waiting, at_most):
            advance(waiting[index].last - waiting[index].first)

    card = _card(job, layouts, tokenizer_hash, tokenizer.get_vocab_size(), eos, added)
    with job.building(FOLDER) as folder:
        for split, layout in layouts.items():
            (folder / split).mkdir()
            _write_doc_ids(layout, identifiers, folder / split / DOC_IDS)
            entries = [_place(task, number, folder / split) for number, task in enumerate(tasks[split])]
            _write_json(folder / split / "index.json", {"version": 2, "shards": entries})
        _write_json(folder / CARD, card)
    remove(work)
    for split, numbers in card["splits"].items():
        say(
            f"shards: {split}: {numbers['sequences']} sequences, {numbers['tokens']} tokens from "
            f"{numbers['documents']} documents; {numbers['tail_tokens']} tokens of the tail dropped"
        )
    if added:
        say(f"shards: {added} documents were added to val, which would not have filled one sequence")
    return card


def _layouts(
    job: Job, tokens: Path, part_files: list[Path], identifiers: pa.ChunkedArray, separators: int
) -> tuple[dict[str, Layout], int]:
    settings = job.configuration.shards
    lengths = [np.load(lengths_path(tokens, part)) for part in part_files]
    length = np.concatenate(lengths).astype(np.int64)
    documents = Documents(
        part=np.repeat(np.arange(len(lengths), dtype=np.int32), [len(numbers) for numbers in lengths]),
        begin=np.concatenate([np.cumsum(numbers, dtype=np.int64) - numbers for numbers in lengths]),
        row=np.arange(len(length)),
        length=length,
    )
    names = identifiers.to_pylist()
    validation, added = split_documents(names, length + separators, settings.val_fraction, settings.max_seq_len)
    layouts = {}
    for split, rows in (("train", np.flatnonzero(~validation)), ("val", np.flatnonzero(validation))):
        chosen = [names[row] for row in rows]
        layouts[split] = lay_out(documents.at(rows), chosen, separators, settings.shuffle_seed, settings.max_seq_len)
    return layouts, added


def write_shard(task: ShardTask) -> None:
    """Write one shard with Streaming's writer into ``target/``; the folder appears when it is whole."""
    from streaming import MDSWriter  # takes seconds: it imports torch and transformers

    sequences = cut(task.layout, task.ids, task.first, task.last, task.sequence_length, task.separator)
    aside = task.target.with_name(f".{task.target.name}.part")
    remove(aside)
    with MDSWriter(
        out=str(aside), columns={COLUMN: f"ndarray:uint16:{task.sequence_length}"}, compression=task.compression,
        hashes=list(task.hashes), size_limit=task.size_limit,
    ) as writer:  # fmt: skip
        for sequence in sequences:
            writer.write({COLUMN: sequence})
    os.replace(aside, task.target)


def _entry(task: ShardTask) -> dict[str, Any] | None:
    """What the writer notes of a shard; None when it is not written yet."""
    try:
        (entry,) = json.loads((task.target / "index.json").read_text(encoding="utf-8"))["shards"]
    except FileNotFoundError:
        return None
    data = entry["zip_data"] or entry["raw_data"]
    return entry if (task.target / data["basename"]).exists() else None


def _place(task: ShardTask, number: int, folder: Path) -> dict[str, Any]:
    """Move a shard to its name in the split; returns its entry for the split's index."""
    entry = _entry(task)
    assert entry is not None, task.target
    data = entry["zip_data"] or entry["raw_data"]
    old = task.target / data["basename"]
    for form in (entry["raw_data"], entry["zip_data"]):
        if form:
            form["basename"] = form["basename"].replace("shard.00000.", f"shard.{number:05d}.")
    shutil.move(old, folder / data["basename"])
    return entry


def _write_doc_ids(layout: Layout, identifiers: pa.ChunkedArray, path: Path) -> None:
    starts = layout.starts[:-1]
    columns = {
        "id": identifiers.take(pa.array(layout.documents.row)),
        "sequence": pa.array(starts // layout.sequence_length),
        "offset": pa.array((starts % layout.sequence_length).astype(np.int32)),
        "tokens": pa.array(np.diff(layout.starts).astype(np.int32)),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def _card(
    job: Job, layouts: dict[str, Layout], tokenizer_hash: str, vocab_size: int, eos: int, added: int
) -> dict[str, Any]:
    settings = job.configuration.shards
    splits = {
        split: {
            "sequences": layout.sequences,
            "tokens": layout.sequences * settings.max_seq_len,
            "documents": len(layout.documents.row),
            "tail_tokens": layout.tail,
        }
        for split, layout in layouts.items()
    }
    totals = {name: sum(numbers[name] for numbers in splits.values()) for name in ("sequences", "tokens", "documents")}
    return {
        "tokenizer_sha256": tokenizer_hash,  # of tokenizer.json
        "vocab_size": vocab_size,
        "eos_id": eos,
        "max_seq_len": settings.max_seq_len,
        "packing": settings.packing,
        "shuffle_seed": settings.shuffle_seed,
        "val_fraction": settings.val_fraction,
        "val_documents_added": added,
        **totals,
        "splits": splits,
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _remove_others(work: Path) -> None:
    """What runs with other settings left unfinished."""
    for other in work.parent.glob("shards-*"):
        if other != work:
            remove(other)


def depends_on(job: Job) -> Any:
    """The settings."""
    return [VERSION, job.configuration.shards.model_dump()]


STAGE = Stage("shards", needs=("select", "tokenizer"), depends_on=depends_on, run=run, outputs=(FOLDER,))
