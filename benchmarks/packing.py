"""CPU seconds of laying out and writing shards, a million documents each time, and the room that is left empty.

Documents are lengths and hashes only, drawn so that they resemble PubMed abstracts (a log-normal law, 320 tokens in the
middle). Laying out takes split, shuffle and packing; it is measured for 1, 4 and 16 times the smallest corpus. The
shuffle of the tokens and the writing of shards are measured on random tokens, for one shard of 64 MiB.

    python -m benchmarks packing
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.shards.packing import Layout, lay_out, shuffled, split_documents
from data_prep.shards.shuffling import GatherTask, cut, gather, save_layout
from data_prep.shards.writing import ShardTask, write_shard

LENGTH = 1024
PART = 30_000  # documents of a file


def measure(arguments: list[str]) -> dict[str, Any]:
    """For each packing ``seconds`` by number of documents, ``padding`` and ``cut`` (shares); microseconds to write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks packing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=500_000, help="of the smallest corpus")
    documents = parser.parse_args(arguments).documents
    figures: dict[str, Any] = {}
    for packing in ("eos", "best_fit"):
        seconds = {}
        for times in (1, 4, 16):
            layout, _, spent = _laid_out(times * documents, packing)
            seconds[times * documents] = round(spent, 2)
        figures[packing] = {
            "seconds": seconds,
            "padding": round(layout.padding / (layout.sequences * LENGTH), 6),
            "cut": round(layout.documents_cut / layout.documents, 4),
        }
    return figures | {"microseconds_per_document": _writing()}


def _laid_out(documents: int, packing: str) -> tuple[Layout, NDArray[np.int32], float]:
    random = np.random.default_rng(0)
    length = np.clip(random.lognormal(np.log(320), 0.4, documents), 20, 3000).astype(np.int32)
    keys = random.integers(0, 2**64, (documents, 2), dtype=np.uint64)
    begin = time.process_time()
    validation, _ = split_documents(keys, length, 0.001, LENGTH)
    layout = lay_out(shuffled(np.flatnonzero(~validation).astype(np.int32), keys, 0), length, packing, 0, LENGTH)
    return layout, length, time.process_time() - begin


def _writing() -> dict[str, float]:
    """CPU time of each step, by document."""
    parts = 8
    layout, length, _ = _laid_out(parts * PART, "eos")
    sequences = min(layout.sequences, (1 << 26) // (2 * LENGTH + 4))
    written = sequences * LENGTH / float(length.mean())
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_layout(layout, folder / "layout", length, [PART] * parts)
        for part in range(parts):
            tokens = int(length[part * PART : (part + 1) * PART].sum())
            np.save(folder / f"{part}.npy", random.integers(0, 28_896, tokens, dtype=np.uint16))
        begin = time.process_time()
        for part in range(parts):
            gather(GatherTask(folder / f"{part}.npy", folder / "layout", part))
        gathered = time.process_time()
        cut(folder / "layout", 0, sequences, LENGTH, 28_895)
        done = time.process_time()
        write_shard(ShardTask(folder / "layout", 0, 0, sequences, LENGTH, 28_895, 1 << 26, ("sha1", "xxh64"), None))
        ended = time.process_time()
    seconds = {
        "first pass": (gathered - begin) / (parts * PART),
        "second pass": (done - gathered) / written,
        "second pass and writer": (ended - done) / written,
    }
    return {step: round(1e6 * each, 2) for step, each in seconds.items()}
