"""Documents → token ids, one file of ids for each file of documents, in ``work/tokens-KEY/``.

For ``documents/NAME.parquet``: ``NAME.ids.npy``, uint16, all documents end to end, no separators; ``NAME.keys.npy``, by
which documents are split and ordered (:func:`data_prep.documents.document_keys`); ``NAME.json``, with what and how it
was done (:class:`Tokenised`); written last, ``NAME.lengths.npy``, int32, one entry a document.

The ids are those of Hugging Face's ``tokenizers``, whatever the engine. A sample of each file is encoded with that as
well; if one document differs, the whole file is done with it, and the run says so.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from base.errors import UserError
from base.progress import progress, say
from base.storage import sha256, write_aside, write_bytes
from data_prep.arrays import save_array
from data_prep.documents import DOCUMENTS, document_keys, parts, read_columns
from data_prep.stage import Job, discard
from data_prep.tokenizer.encoding import Encoder, Reference, load_encoders
from data_prep.tokenizer.stage import FOLDER

TOKEN = np.uint16
LARGEST = np.iinfo(TOKEN).max
ROWS = 1000  # read at a time
BATCH = 8 << 20  # bytes of text encoded at a time: gigatoken's results cost by the batch
SAMPLE = 256  # one document in so many is compared with the reference, chosen by its key, whatever the corpus


@dataclass(frozen=True)
class TokeniseTask:
    """One file of documents. ``sha256`` is that of the tokenizer."""

    part: Path
    tokenizer: Path
    sha256: str
    folder: Path


@dataclass(frozen=True)
class Tokenised:
    """How one file was done: with what, why not with gigatoken (or nothing), and how many were compared."""

    engine: str
    why: str
    documents: int
    tokens: int
    compared: int


class Unequal(Exception):
    """The fast engine gave other ids than the reference; the message says for which document."""


def tokenise(job: Job, key: str) -> Path:
    """Tokenise what is not there yet; returns the folder. ``key`` names the documents and the tokenizer."""
    folder = job.work / f"tokens-{key}"
    for other in job.work.glob("tokens-*"):
        if other != folder:
            discard(other)
    folder.mkdir(exist_ok=True)
    tokenizer = job.local / FOLDER
    digest = sha256(tokenizer / "tokenizer.json")
    tasks = [TokeniseTask(part, tokenizer, digest, folder) for part in parts(job.local / DOCUMENTS)]
    waiting = [task for task in tasks if not _lengths(task).exists()]
    said: set[str] = set()
    if len(waiting) < len(tasks):
        say(f"shards: {len(tasks) - len(waiting)} of {len(tasks)} files are tokenised already")
    with progress("shards, tokenise", sum(task.part.stat().st_size for task in waiting), "bytes") as advance:
        for index, outcome in job.executor.map(tokenise_part, waiting):
            advance(waiting[index].part.stat().st_size)
            if outcome.why and outcome.why not in said:
                said.add(outcome.why)
                say(f"shards: WARNING: with {outcome.engine}, many times slower than gigatoken: {outcome.why}")
    return folder


def how_tokenised(folder: Path, part_files: Sequence[Path]) -> dict[str, Any]:
    """For the card: number of files by engine (``engines``) and by reason why not gigatoken (``not_gigatoken``);
    ``documents``, ``tokens``, and how many documents were ``compared`` with the reference."""
    done = [Tokenised(**json.loads(_note(folder, part).read_text(encoding="utf-8"))) for part in part_files]
    return {
        "engines": dict(sorted(Counter(file.engine for file in done).items())),
        "not_gigatoken": dict(sorted(Counter(file.why for file in done if file.why).items())),
        "documents": sum(file.documents for file in done),
        "tokens": sum(file.tokens for file in done),
        "compared": sum(file.compared for file in done),
    }


def ids_path(folder: Path, part: Path) -> Path:
    """Where the ids of a file of documents lie."""
    return folder / f"{part.stem}.ids.npy"


def lengths_path(folder: Path, part: Path) -> Path:
    """Where the numbers of tokens of its documents lie."""
    return folder / f"{part.stem}.lengths.npy"


def keys_path(folder: Path, part: Path) -> Path:
    """Where the keys of its documents lie."""
    return folder / f"{part.stem}.keys.npy"


def _lengths(task: TokeniseTask) -> Path:
    return lengths_path(task.folder, task.part)


def _note(folder: Path, part: Path) -> Path:
    return folder / f"{part.stem}.json"


def tokenise_part(task: TokeniseTask) -> Tokenised:
    """Tokenise one file of documents."""
    reference, fast, why = load_encoders(task.tokenizer, task.sha256)
    if reference.vocab_size > LARGEST + 1:
        raise UserError(f"{task.tokenizer}: {reference.vocab_size} entries do not fit into 16 bits")
    if fast is not None:
        try:
            return _write(task, fast, reference, why)
        except Unequal as error:
            why = str(error)
    return _write(task, reference, None, why)


def _write(task: TokeniseTask, encoder: Encoder, reference: Reference | None, why: str) -> Tokenised:
    """Write the files of a task; a sample is compared with ``reference``, if there is one."""
    lengths: list[NDArray[np.int32]] = [np.empty(0, dtype=np.int32)]
    keys: list[NDArray[np.uint64]] = [document_keys([])]
    compared = tokens = 0
    with write_aside(ids_path(task.folder, task.part)) as aside, open(aside, "wb") as file:
        _write_header(file, 0)
        for identifiers, texts in _batches(task.part):
            keys.append(document_keys(identifiers.to_pylist()))
            ids, numbers = encoder.encode(texts)
            if reference is not None:
                chosen = keys[-1][:, 1] % SAMPLE == 0
                chosen[0] |= len(lengths) == 1  # the first of each file
                compared += _compare(reference, identifiers, texts, np.flatnonzero(chosen), ids, numbers)
            file.write(ids.astype(TOKEN).data)
            lengths.append(numbers)
            tokens += len(ids)
        file.seek(0)
        _write_header(file, tokens)
    counted = np.concatenate(lengths)
    outcome = Tokenised(encoder.engine, why, len(counted), tokens, compared)
    write_bytes(str(_note(task.folder, task.part)), json.dumps(asdict(outcome)).encode())
    save_array(keys_path(task.folder, task.part), np.concatenate(keys))
    save_array(_lengths(task), counted)
    return outcome


def _write_header(file: BinaryIO, tokens: int) -> None:
    # numpy leaves room in the header for the first dimension to grow, so that it can be written again.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(TOKEN)), "fortran_order": False, "shape": (tokens,)}
    np.lib.format.write_array_header_1_0(file, header)


def _batches(part: Path) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Ids and texts of documents, at most BATCH bytes of text at a time, or one document."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for rows, number in _slices(part):
        if waiting and size + number > BATCH:
            yield _joined(waiting)
            waiting, size = [], 0
        waiting.append(rows)
        size += number
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> tuple[pa.Array, pa.Array]:
    ids, texts = (pa.concat_arrays([batch[name] for batch in batches]) for name in ("id", "text"))
    return ids, texts


def _slices(part: Path) -> Iterator[tuple[pa.RecordBatch, int]]:
    """The rows as they are read, cut where they have more than BATCH bytes of text; with their bytes of text."""
    for batch in read_columns(part, ["id", "text"], ROWS):
        ends = np.cumsum(pc.binary_length(batch["text"]).to_numpy(), dtype=np.int64)
        first = before = 0
        while first < len(ends):
            last = max(first + 1, int(np.searchsorted(ends, before + BATCH, side="right")))
            yield batch.slice(first, last - first), int(ends[last - 1]) - before
            first, before = last, int(ends[last - 1])


def _compare(
    reference: Reference, identifiers: pa.Array, texts: pa.Array, rows: NDArray[np.int64],
    ids: NDArray[np.uint32], lengths: NDArray[np.int32],
) -> int:  # fmt: skip
    """Compare some documents with the reference; returns how many.

    Raises:
        Unequal: a document has other ids.
    """
    if not len(rows):
        return 0
    expected, numbers = reference.encode(texts.take(pa.array(rows)))
    ends = np.cumsum(lengths)
    got = [ids[ends[row] - lengths[row] : ends[row]] for row in rows]
    for row, ours, theirs in zip(rows, got, np.split(expected, np.cumsum(numbers)[:-1]), strict=True):
        if not np.array_equal(ours, theirs):
            raise Unequal(f"gigatoken and tokenizers do not agree on {identifiers[row]}; please report this")
    return len(rows)
