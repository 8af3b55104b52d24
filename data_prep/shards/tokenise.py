"""Documents → token ids, one file of ids for each file of documents, in ``work/tokens-KEY/``.

For ``documents/NAME.parquet``: ``NAME.ids.npy``, uint16, all documents end to end, no separators; written last,
``NAME.lengths.npy``, int32, one entry a document.
"""

import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from base.errors import UserError
from base.progress import progress, say
from base.storage import write_aside
from data_prep.documents import DOCUMENTS, parts, read_columns
from data_prep.stage import Job, remove
from data_prep.tokenizer.stage import FOLDER
from data_prep.tokenizer.training import load_tokenizer

TOKEN = np.uint16
LARGEST = np.iinfo(TOKEN).max


@dataclass(frozen=True)
class TokeniseTask:
    """One file of documents."""

    part: Path
    tokenizer: Path
    folder: Path


def tokenise(job: Job, key: str) -> Path:
    """Tokenise what is not there yet; returns the folder. ``key`` names the documents and the tokenizer."""
    folder = job.work / f"tokens-{key}"
    for other in job.work.glob("tokens-*"):
        if other != folder:
            remove(other)
    folder.mkdir(exist_ok=True)
    tokenizer = job.local / FOLDER
    tasks = [TokeniseTask(part, tokenizer, folder) for part in parts(job.local / DOCUMENTS)]
    waiting = [task for task in tasks if not _lengths(task).exists()]
    if len(waiting) < len(tasks):
        say(f"shards: {len(tasks) - len(waiting)} of {len(tasks)} files are tokenised already")
    with progress("shards, tokenise", sum(task.part.stat().st_size for task in waiting), "bytes") as advance:
        for index, _ in job.executor.map(tokenise_part, waiting):
            advance(waiting[index].part.stat().st_size)
    return folder


def ids_path(folder: Path, part: Path) -> Path:
    """Where the ids of a file of documents lie."""
    return folder / f"{part.stem}.ids.npy"


def lengths_path(folder: Path, part: Path) -> Path:
    """Where the numbers of tokens of its documents lie."""
    return folder / f"{part.stem}.lengths.npy"


def _lengths(task: TokeniseTask) -> Path:
    return lengths_path(task.folder, task.part)


def tokenise_part(task: TokeniseTask) -> None:
    """Tokenise one file of documents."""
    if multiprocessing.parent_process() is not None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads would fight with the other workers
    tokenizer = load_tokenizer(task.tokenizer)
    if tokenizer.get_vocab_size() > LARGEST + 1:
        raise UserError(f"{task.tokenizer}: {tokenizer.get_vocab_size()} entries do not fit into 16 bits")
    ids: list[NDArray[np.uint16]] = []
    lengths: list[int] = []
    for batch in read_columns(task.part, ["text"]):
        for encoding in tokenizer.encode_batch(batch["text"].to_pylist(), add_special_tokens=False):
            ids.append(np.array(encoding.ids, dtype=TOKEN))
            lengths.append(len(encoding.ids))
    _save(ids_path(task.folder, task.part), np.concatenate(ids))
    _save(_lengths(task), np.array(lengths, dtype=np.int32))


def _save(path: Path, array: NDArray[np.generic]) -> None:
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.save(file, array)
