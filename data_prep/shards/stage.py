"""Stage ``shards``: documents → packed sequences of token ids in MDS (``OUT/mds/{train,val}``), ``OUT/mds/card.json``.

A shard holds a fixed number of sequences, so its bytes depend on its place alone, and any number of workers writes the
same files: those of Streaming's own writer (``mds.py``). One ``index.json`` a split holds their entries; beside it lies
``doc_ids.parquet`` (see ``doc_ids.py``). The names of ``card.json`` are in :func:`_card`; the training refuses shards
whose tokenizer is not the one it is given. The engine that made the ids stands in the summary alone: they are the
same with each, and so are the bytes of ``card.json``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from base.progress import progress, say
from base.storage import sha256
from data_prep.documents import DOCUMENTS, parts
from data_prep.schema import shard_room
from data_prep.shards.doc_ids import DOC_IDS, write_doc_ids
from data_prep.shards.packing import SPLITS, Layout, lay_out, shuffled, split_documents
from data_prep.shards.shuffling import GatherTask, gather, gathered_path, save_layout
from data_prep.shards.tokenise import how_tokenised, ids_path, keys_path, lengths_path, tokenise
from data_prep.shards.writing import ShardTask, place_shard, shard_entry, write_shard
from data_prep.stage import Job, Stage, digest, discard, versions
from data_prep.tokenizer.encoding import read_vocabulary
from data_prep.tokenizer.stage import FOLDER as TOKENIZER
from data_prep.tokenizer.training import END_OF_TEXT

VERSION = 3
TOKENS = 2  # which files lie in the folder of ids
FOLDER, CARD = "mds", "card.json"


def run(job: Job) -> dict[str, Any]:
    """Tokenise, lay out, shuffle, write the shards, put them together."""
    settings = job.configuration.shards
    tokenizer_hash = sha256(job.local / TOKENIZER / "tokenizer.json")
    tokens = tokenise(job, digest([*_rules(), TOKENS, job.marker("select")["key"], tokenizer_hash]))
    vocabulary = read_vocabulary(job.local / TOKENIZER)
    eos = vocabulary[END_OF_TEXT]
    work = job.work / f"shards-{digest([tokens.name, settings.model_dump()])}"
    _remove_others(work)

    part_files = parts(job.local / DOCUMENTS)
    tokenised = how_tokenised(tokens, part_files)
    say(f"shards: {_said_of_tokenising(tokenised)}")
    layouts, added = _layouts(job, tokens, part_files, work)
    tasks: dict[str, list[ShardTask]] = {}
    for split, layout in layouts.items():
        per_shard = shard_room(settings)
        tasks[split] = [
            ShardTask(
                work / split, number, first, min(first + per_shard, layout.sequences),
                settings.max_seq_len, eos, settings.size_limit, tuple(sorted(settings.hashes)), settings.compression,
            )
            for number, first in enumerate(range(0, layout.sequences, per_shard))
        ]  # fmt: skip
    everything = [task for split in SPLITS for task in tasks[split]]
    waiting = [task for task in everything if not shard_entry(task)]
    if len(waiting) < len(everything):
        say(f"shards: {len(everything) - len(waiting)} of {len(everything)} shards are written already")
    if waiting:
        _gather(job, [ids_path(tokens, part) for part in part_files], [work / split for split in layouts])
    with progress("shards, write", sum(task.last - task.first for task in waiting), "sequences") as advance:
        for index, _ in job.executor.map(write_shard, waiting):
            advance(waiting[index].last - waiting[index].first)

    card = _card(job, layouts, tokenizer_hash, len(vocabulary), eos, added)
    with job.building(FOLDER) as folder:
        identifiers = _identifiers(part_files)
        for split, layout in layouts.items():
            (folder / split).mkdir()
            write_doc_ids(layout, identifiers, folder / split / DOC_IDS)
        for split in layouts:  # last: what was moved is written anew when this run is killed
            entries = [place_shard(task, folder / split) for task in tasks[split]]
            _write_json(folder / split / "index.json", {"version": 2, "shards": entries})
        _write_json(folder / CARD, card)
    discard(work)
    for split, numbers in card["splits"].items():
        lost = f"{numbers['padding_tokens']} of padding" if numbers["padding_tokens"] else ""
        lost = f"{numbers['tail_tokens']} of the tail dropped" if numbers["tail_tokens"] else lost
        say(
            f"shards: {split}: {numbers['sequences']} sequences, {numbers['tokens']} tokens{', ' * bool(lost)}{lost}, "
            f"from {numbers['documents']} documents, {numbers['documents_cut']} of them not in one sequence"
        )
    if added:
        say(f"shards: {added} documents were added to val, which would not have filled one sequence")
    return card | {"tokenised": tokenised}


def _said_of_tokenising(how: dict[str, Any]) -> str:
    engines = ", ".join(f"{files} files with {engine}" for engine, files in how["engines"].items())
    compared = f"; {how['compared']} documents compared with tokenizers: equal" if how["compared"] else ""
    return f"tokenised {engines}{compared}"


def _layouts(job: Job, tokens: Path, part_files: list[Path], work: Path) -> tuple[dict[str, Layout], int]:
    """Lay out each split and save that for the workers; also how many documents were added to val."""
    settings = job.configuration.shards
    keys = np.concatenate([np.load(keys_path(tokens, part)) for part in part_files])
    lengths = [np.load(lengths_path(tokens, part)) for part in part_files]
    length = np.concatenate(lengths)
    separated = length + np.int32(settings.packing != "concat")
    validation, added = split_documents(keys, separated, settings.val_fraction, settings.max_seq_len)
    layouts = {}
    for split, chosen in (("train", ~validation), ("val", validation)):
        rows = shuffled(np.flatnonzero(chosen).astype(np.int32), keys, settings.shuffle_seed)
        layouts[split] = lay_out(rows, length, settings.packing, settings.shuffle_seed, settings.max_seq_len)
        save_layout(layouts[split], work / split, length, [len(each) for each in lengths])
    return layouts, added


def _gather(job: Job, ids: list[Path], layouts: list[Path]) -> None:
    tasks = [GatherTask(path, layout, part) for layout in layouts for part, path in enumerate(ids)]
    waiting = [task for task in tasks if not gathered_path(task.layout, task.part).exists()]
    with progress("shards, shuffle", len(waiting), "files") as advance:
        for _ in job.executor.map(gather, waiting):
            advance(1)


def _identifiers(part_files: list[Path]) -> pa.LargeStringArray:
    columns = [pq.read_table(part, columns=["id"])["id"].cast(pa.large_string()) for part in part_files]
    return pa.concat_arrays([chunk for column in columns for chunk in column.chunks])


def _card(
    job: Job, layouts: dict[str, Layout], tokenizer_hash: str, vocab_size: int, eos: int, added: int
) -> dict[str, Any]:
    settings = job.configuration.shards
    splits = {
        split: {
            "sequences": layout.sequences,
            "tokens": layout.sequences * settings.max_seq_len,
            "documents": layout.documents,
            "documents_cut": layout.documents_cut,  # do not lie in one sequence
            "tail_tokens": layout.tail,
            "padding_tokens": layout.padding,  # places that no document covers
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
            discard(other)


def _rules() -> list[Any]:
    return [VERSION, versions("tokenizers")]


def depends_on(job: Job) -> Any:
    """The settings, and what makes the ids: gigatoken's are those of tokenizers."""
    return [*_rules(), job.configuration.shards.model_dump()]


STAGE = Stage("shards", needs=("select", "tokenizer"), depends_on=depends_on, run=run, outputs=(FOLDER,))
