"""Memory and time of the decisions about all of PubMed and PMC at once, on files of the sizes that the real ones have.

The steps of ``select`` that look at everything run here on made files: the identifiers of 45 million PMIDs with updates
(5 % of them once more) and of 8 million full texts; candidates, digests, band keys and signatures of those that have
text. Two in a hundred documents share all band keys with another one; signatures are sparse files, all alike, so
that every such pair is found to be one. What looks at single records runs in the workers and is measured elsewhere.

    python -m benchmarks scale [--pmids 45000000] [--full-texts 8000000] [--folder DIR: about 10 GB for the full size]
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BAR = 8e9
A_FILE = 30_000
WITH_TEXT = 0.72  # of PubMed's citations


def measure(arguments: list[str]) -> dict[str, Any]:
    """Peak memory and seconds of each step."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pmids", type=int, default=45_000_000)
    parser.add_argument("--full-texts", type=int, default=8_000_000)
    parser.add_argument("--folder", help="where the files are made; the system's folder for such by default")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="scale-", dir=given.folder) as folder:
        files = _make(Path(folder), given.pmids, given.full_texts)
        context = multiprocessing.get_context("spawn")
        with context.Pool(1, maxtasksperchild=1) as pool:
            figures = pool.apply(_decide_about, (Path(folder), files))
    return {
        "pmids": given.pmids,
        "full_texts": given.full_texts,
        **figures,
        "bar_bytes": BAR,
        "bar_met": figures["peak_bytes"] <= BAR,
    }


def _decide_about(folder: Path, files: list[Any]) -> dict[str, Any]:
    from data_prep.schema import Select
    from data_prep.select.keys import first_fates
    from data_prep.select.reasons import NAMES
    from data_prep.select.stage import compare

    empty = _peak()
    start = time.monotonic()
    fates = first_fates(files)
    counts = np.sum([np.bincount(fate, minlength=256) for fate in fates], axis=0)
    folded, after_fold = time.monotonic() - start, _peak()
    sent = [fate.tobytes() for fate in fates]  # what the tasks carry
    del fates, sent
    start = time.monotonic()
    outcomes, _, _ = compare(Select(), files, folder)
    decided = np.sum([np.bincount(outcome, minlength=256) for outcome in outcomes], axis=0)
    return {
        "rows": int(counts.sum()),
        "candidates": int(decided.sum()),
        "fates": {
            NAMES[code] or "kept": int(counts[code] + decided[code]) for code in np.flatnonzero(decided + counts)[1:]
        },
        "fold_seconds": round(folded, 1),
        "decide_seconds": round(time.monotonic() - start, 1),
        "peak_bytes_before": empty,
        "peak_bytes_fold": after_fold,
        "peak_bytes": _peak(),
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _make(folder: Path, pmids: int, full_texts: int) -> list[Any]:
    """The files that ``parse`` and the judging of ``select`` would leave, with the columns that the decisions read."""
    from data_prep.select.keys import ParsedFile

    random = np.random.default_rng(17)
    files = []
    updates = random.choice(pmids, pmids // 20, replace=False)
    every = np.concatenate([np.arange(1, pmids + 1), np.sort(updates) + 1])
    for number, first in enumerate(range(0, len(every), A_FILE)):
        pmid = every[first : first + A_FILE]
        file = ParsedFile("pubmed", f"pubmed26n{number:04d}", folder / f"p{number}.parquet", f"p{number}")
        kinds = pa.array(["article"] * len(pmid))
        pq.write_table(
            pa.table({"pmid": pmid, "version": pa.array([1] * len(pmid), pa.int32()), "kind": kinds}), file.rows
        )
        rows = np.flatnonzero(random.random(len(pmid)) < WITH_TEXT) if first < pmids else np.zeros(0, dtype=np.int64)
        _judged(folder, file.part, len(pmid), rows, pmid[rows], np.where(pmid[rows] % 5 == 0, pmid[rows], -1), random)
        files.append(file)
    for number, first in enumerate(range(0, full_texts, A_FILE)):
        pmcid = np.arange(first, min(first + A_FILE, full_texts)) * 5 + 5  # those that the abstracts above name
        file = ParsedFile("pmc", f"pmc-{number:05d}", folder / f"f{number}.parquet", f"f{number}")
        columns = {
            "pmcid": pmcid, "doi_hash": pmcid.astype(np.uint64), "version": pa.array([1] * len(pmcid), pa.int32()),
            "manuscript": pa.array([False] * len(pmcid)), "kind": pa.array(["article"] * len(pmcid)),
        }  # fmt: skip
        pq.write_table(pa.table(columns), file.rows)
        rows = np.flatnonzero(random.random(len(pmcid)) < 0.6)
        _judged(folder, file.part, len(pmcid), rows, np.full(len(rows), -1), pmcid[rows], random)
        files.append(file)
    return files


def _judged(
    folder: Path, part: str, length: int, rows: Any, pmid: Any, pmcid: Any, random: np.random.Generator
) -> None:
    from data_prep.schema import NearDuplicates
    from data_prep.select.judge import bands_path, results_path, signatures_path

    near = NearDuplicates()
    number = len(rows)
    np.savez(
        results_path(folder, part), fates=np.zeros(length, dtype=np.uint8), rows=rows, pmid=pmid, pmcid=pmcid,
        doi=random.integers(1, 1 << 63, number).astype(np.uint64),
        digest=np.frombuffer(random.bytes(16 * number), dtype="V16"),
    )  # fmt: skip
    bands = random.integers(0, 1 << 63, (near.bands, number)).astype(np.uint64)
    twins = random.choice(number, number // 50, replace=False) if number > 50 else np.zeros(0, dtype=np.int64)
    bands[:, twins] = (twins + 1000).astype(np.uint64)  # of the same number in other files
    np.save(bands_path(folder, part), bands)
    sparse = np.lib.format.open_memmap(
        signatures_path(folder, part), mode="w+", dtype=np.uint32, shape=(number, near.bands * near.rows)
    )
    del sparse
