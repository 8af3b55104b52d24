"""What the select stage spends on the text of an abstract, and how well it finds near duplicates.

- ``microseconds``: CPU for each abstract of 1.7 kB (batches of 1,000; the fastest of several turns counts, because the
  machine may be shared): words, signatures with band keys, scan for benchmark questions, quality, boilerplate.
  Bar: 25 in total.
- ``near_duplicates``: over the real abstracts (which hold several revisions of many), every pair with its exact
  similarity (all 5-grams of words) against what bands and signatures find.
- ``dropped``: how many of the real abstracts each rule of quality would drop, and what boilerplate takes out.
- ``at_scale``: ``find`` over made-up signatures of ten million documents: CPU seconds and peak memory.

    python -m benchmarks select --pubmed DIR --qa DIR
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

BAR = 25.0  # microseconds
BATCH = 1000
TURNS = 15


def measure(arguments: list[str]) -> dict[str, Any]:
    """The figures named above."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks select", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pubmed", type=Path, required=True, help="folder with real PubMed XML")
    parser.add_argument("--qa", type=Path, required=True, help="folder with the official question files")
    parser.add_argument("--documents", type=int, default=10_000_000, help="for at_scale; 0 leaves it out")
    given = parser.parse_args(arguments)
    os.environ.setdefault("RAYON_NUM_THREADS", "1")  # rensa's threads: one, as in a worker
    texts = _abstracts(given.pubmed)
    figures = {"microseconds": _microseconds(texts, given.qa), "bar_microseconds": BAR}
    figures |= {"near_duplicates": _near_duplicates(texts), "dropped": _dropped(texts)}
    if given.documents:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.select_at_scale", str(given.documents)],
            stdout=subprocess.PIPE, check=True, text=True,
        )  # fmt: skip
        figures["at_scale"] = json.loads(child.stdout.splitlines()[-1])
    return figures


def _abstracts(folder: Path) -> list[str]:
    from data_prep.parse.pubmed import Record, read_pubmed

    files = sorted(path for path in folder.rglob("*") if path.name.endswith((".xml", ".xml.gz")))
    records = (record for path in files for record in read_pubmed(path))
    return [
        f"{record.title}\n{record.abstract}" for record in records if isinstance(record, Record) and record.abstract
    ]


def _microseconds(texts: list[str], qa: Path) -> dict[str, float]:
    import pyarrow as pa

    from data_prep.schema import NearDuplicates, Quality
    from data_prep.select import boilerplate, near_duplicates, quality
    from data_prep.select.contamination import Benchmarks
    from data_prep.select.words import words_of

    batch = pa.array(texts[:BATCH], pa.string())
    words, benchmarks = words_of(batch), Benchmarks.load(qa, ngram=13)
    settings = NearDuplicates()
    parts: dict[str, Callable[[], object]] = {
        "words": lambda: words_of(batch),
        "signatures": lambda: near_duplicates.band_keys(near_duplicates.signatures(words, settings), settings),
        "contamination": lambda: benchmarks.scan(words),
        "quality": lambda: quality.check(batch, words, Quality()),
        "boilerplate": lambda: boilerplate.strip_all(batch, words),
    }
    size = batch.nbytes - 4 * (len(batch) + 1)  # less the offsets
    microseconds = {name: _cpu_seconds(part) / size * 1700 * 1e6 for name, part in parts.items()}
    microseconds["total"] = sum(microseconds.values())
    return {name: round(value, 2) for name, value in microseconds.items()}


def _cpu_seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(TURNS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def _near_duplicates(texts: list[str]) -> dict[str, Any]:
    """Pairs by exact similarity: how many there are, how many share a bucket and pass the check of signatures."""
    import numpy as np

    from data_prep.schema import NearDuplicates
    from data_prep.select.near_duplicates import band_keys, signatures
    from data_prep.select.words import runs_of, words_of

    settings = NearDuplicates()
    words = words_of(texts)
    rows = signatures(words, settings)
    keys = band_keys(rows, settings)
    runs = runs_of(words, settings.ngram)
    sets = [np.unique(runs.hashes[begin:end]) for begin, end in zip(runs.offsets[:-1], runs.offsets[1:], strict=True)]
    document = np.repeat(np.arange(len(texts)), [len(each) for each in sets])
    hashes = np.concatenate(sets)
    order = np.lexsort((document, hashes))
    hashes, document = hashes[order], document[order]
    common: Counter[tuple[int, int]] = Counter()
    for group in np.split(document, np.flatnonzero(hashes[1:] != hashes[:-1]) + 1):
        if 1 < len(group) <= 50:  # a run in more texts is a phrase; what is similar shares others
            common.update((int(one), int(other)) for place, one in enumerate(group) for other in group[:place])
    table: dict[str, Counter[str]] = {name: Counter() for name in ("0.9-1", "0.8-0.9", "0.7-0.8", "0.5-0.7", "0-0.5")}
    for (one, other), number in common.items():
        exact = number / (len(sets[one]) + len(sets[other]) - number)
        lower = next(name for name in table if exact >= float(name.split("-")[0]))
        bucket = bool((keys[:, one] == keys[:, other]).any())
        passes = bool((rows[one] == rows[other]).mean() >= settings.threshold)
        table[lower].update(pairs=1, share_a_bucket=bucket, found=bucket and passes)
    return {
        "documents": len(texts),
        "threshold": settings.threshold,
        **{name: dict(row) for name, row in table.items()},
    }


def _dropped(texts: list[str]) -> dict[str, Any]:
    import pyarrow as pa

    from data_prep.schema import Quality
    from data_prep.select import boilerplate, quality
    from data_prep.select.reasons import KEPT, NAMES
    from data_prep.select.words import words_of

    batch = pa.array(texts, pa.string())
    words = words_of(batch)
    rules = Counter(NAMES[code] for code in quality.check(batch, words, Quality()) if code != KEPT)
    hits = boilerplate.strip_all(batch, words)[2]
    return {"quality": dict(rules), "boilerplate": dict(sum(hits.values(), Counter[str]()))}
