"""``find`` over made-up signatures of many documents, in a process of its own: ``benchmarks.select`` starts it.

Of the documents, 2 in 100 repeat another one (they share six of the 14 bands), and 100,000 more share one band and
nothing else. Files are as the select stage writes them; signatures that are never read are holes in their files.
"""

import json
import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.schema import NearDuplicates
from data_prep.select.near_duplicates import find

FILES = 50
CROWD = 100_000
SETTINGS = NearDuplicates()
PLACES = SETTINGS.bands * SETTINGS.rows


def main(documents: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        bands, signatures, repeats = _write(Path(name), documents)
        chosen = np.arange(documents)
        priority = np.random.default_rng(1).permutation(documents)
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        dropped, _ = find(bands, signatures, chosen, priority, SETTINGS.threshold)
        seconds = time.process_time() - start
    figures = {
        "documents": documents,
        "repeats_made": repeats,
        "dropped": int(dropped.sum()),
        "cpu_seconds": round(seconds, 1),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_memory_bytes_before": before * 1024,
    }
    print(json.dumps(figures))


def _write(folder: Path, documents: int) -> tuple[list[Path], list[Path], int]:
    numbers = np.random.default_rng(0)
    cuts = np.linspace(0, documents, FILES + 1).astype(int).tolist()
    special = numbers.choice(documents, documents // 50 * 2 + CROWD, replace=False)
    repeating, repeated, crowd = np.split(special, [documents // 50, documents // 50 * 2])
    like = np.arange(documents)
    like[repeating] = repeated
    written = np.sort(special)
    paths: tuple[list[Path], list[Path]] = ([], [])
    for file, (begin, end) in enumerate(pairwise(cuts)):
        keys = np.empty((SETTINGS.bands, end - begin), dtype=np.uint64)
        for band in range(SETTINGS.bands):
            source = like[begin:end] if band % 2 and band != 3 else np.arange(begin, end)
            keys[band] = _mixed(source.astype(np.uint64) * np.uint64(SETTINGS.bands) + np.uint64(band))
        keys[3, crowd[(crowd >= begin) & (crowd < end)] - begin] = 7
        np.save(folder / f"{file}.bands.npy", keys)
        rows = written[(written >= begin) & (written < end)]
        signature = np.lib.format.open_memmap(
            folder / f"{file}.signatures.npy", mode="w+", dtype=np.uint32, shape=(end - begin, PLACES)
        )
        place = np.arange(PLACES, dtype=np.uint64)
        signature[rows - begin] = _mixed(like[rows, None].astype(np.uint64) * np.uint64(PLACES) + place)
        paths[0].append(folder / f"{file}.bands.npy")
        paths[1].append(folder / f"{file}.signatures.npy")
        del signature
    return *paths, len(repeating)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    numbers = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
    return numbers ^ (numbers >> np.uint64(29))


if __name__ == "__main__":
    main(int(sys.argv[1]))
