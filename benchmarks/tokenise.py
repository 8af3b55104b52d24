"""Tokens per CPU-second of data_prep's tokenising, beside Hugging Face's tokenizers alone.

Each line of more than 200 characters of every .csv and .txt file in a folder is a document (without a folder: generated
abstracts). A vocabulary of 28,896 is trained on all of them. Then two files of documents are tokenised as the shards
stage does: read from Parquet, encoded, a sample compared with the reference, written. The first one stands for a
worker's first file, with everything that has to be loaded; the second, of other documents, for all that follow. The
reference encodes the second one too, on one thread, and every id must be the same.

    python -m benchmarks tokenise --text ../shared/data/text
"""

import argparse
import hashlib
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import UserError
from base.storage import sha256
from benchmarks.citations import LONG, lines
from data_prep.download.sample_text import article, drugs
from data_prep.shards.tokenise import Tokenised, TokeniseTask, ids_path, tokenise_part
from data_prep.tokenizer.encoding import Reference
from data_prep.tokenizer.training import train, write_tokenizer

BAR = 15.0  # million tokens per CPU-second
GENERATED = 8000


def measure(arguments: list[str]) -> dict[str, Any]:
    """Millions of tokens per CPU-second of the first and of a later file, the bar, the reference's, peak memory."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks tokenise", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, help="folder of .csv and .txt files (default: generated abstracts)")
    place = parser.parse_args(arguments).text
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread each
    texts = list(dict.fromkeys(lines(place) if place else _generated()))
    if not texts:
        raise UserError(f"--text {place}: no .csv or .txt file there has a line of more than {LONG} characters")
    Random(0).shuffle(texts)
    with tempfile.TemporaryDirectory() as folder:
        return _measure(texts, Path(folder))


def _measure(texts: list[str], folder: Path) -> dict[str, Any]:
    write_tokenizer(train(iter([texts]), 28896, 2), folder, 1024)
    digest = sha256(folder / "tokenizer.json")
    before = _peak()
    parts = [_documents(folder / f"{half}.parquet", texts[half::2]) for half in range(2)]
    (first, first_seconds), (later, later_seconds) = (
        _timed(TokeniseTask(part, folder, digest, folder)) for part in parts
    )
    peak = _peak()
    start = time.process_time()
    expected, _ = Reference(folder).encode(pq.read_table(parts[1], columns=["text"])["text"].combine_chunks())
    reference_seconds = time.process_time() - start
    rate, reference_rate = later.tokens / later_seconds / 1e6, len(expected) / reference_seconds / 1e6
    return {
        "engine": later.engine,
        "documents": len(texts),
        "tokens": first.tokens + later.tokens,
        "bytes": sum(len(text.encode()) for text in texts),
        "first_file_mtok_per_cpu_second": round(first.tokens / first_seconds / 1e6, 1),
        "mtok_per_cpu_second": round(rate, 1),
        "bar": BAR,
        "bar_met": rate >= BAR,
        "tokenizers_mtok_per_cpu_second": round(reference_rate, 2),
        "ratio": round(rate / reference_rate, 1),
        "ids_equal": bool(np.array_equal(np.load(ids_path(folder, parts[1])), expected)),
        "compared_in_the_run": first.compared + later.compared,
        "peak_memory_bytes": peak,
        "peak_memory_bytes_before": before,  # of the training, which went before in this process
    }


def _timed(task: TokeniseTask) -> tuple[Tokenised, float]:
    start = time.process_time()
    return tokenise_part(task), time.process_time() - start


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _documents(path: Path, texts: list[str]) -> Path:
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    identifiers = [f"line:{number}" for number in range(len(texts))]
    table = pa.table({"id": identifiers, "text": texts, "sha256": digests})
    pq.write_table(table, path, compression="zstd", row_group_size=10_000)
    return path


def _generated() -> Iterator[str]:
    random = Random(0)
    known = drugs(random, 300)
    for _ in range(GENERATED):
        title, sections = article(random, known)
        yield "\n".join([title, *(text for _, text in sections)])
