"""Documents → token ids, one file of ids for each file of documents, in ``work/tokens-KEY/``.

For ``documents/NAME.parquet``: ``NAME.ids.npy``, uint16, all documents end to end, no separators; ``NAME.json``, with
what and how it was done (:class:`Tokenised`); written last, ``NAME.lengths.npy``, int32, one entry a document.

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
from data_prep.documents import DOCUMENTS, parts, read_columns
from data_prep.stage import Job, discard
from data_prep.tokenizer.encoding import Encoder, Reference, load_encoders
from data_prep.tokenizer.stage import FOLDER

TOKEN = np.uint16
LARGEST = np.iinfo(TOKEN).max
ROWS = 500  # read at a time
BATCH = 8 << 20  # bytes of text encoded at a time
SAMPLE = "00"  # documents whose sha256 begins so are compared with the reference: one in 256, whatever the corpus


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
    lengths: list[NDArray[np.int32]] = []
    compared = tokens = 0
    with write_aside(ids_path(task.folder, task.part)) as aside, open(aside, "wb") as file:
        _write_header(file, 0)
        for identifiers, texts, digests in _batches(task.part):
            ids, numbers = encoder.encode(texts)
            if reference is not None:
                compared += _compare(reference, identifiers, texts, digests, ids, numbers, first=not lengths)
            file.write(ids.astype(TOKEN).tobytes())
            lengths.append(numbers)
            tokens += len(ids)
        file.seek(0)
        _write_header(file, tokens)
    counted = np.concatenate([np.empty(0, dtype=np.int32), *lengths])
    outcome = Tokenised(encoder.engine, why, len(counted), tokens, compared)
    write_bytes(str(_note(task.folder, task.part)), json.dumps(asdict(outcome)).encode())
    with write_aside(_lengths(task)) as aside, open(aside, "wb") as file:
        np.save(file, counted)
    return outcome


def _write_header(file: BinaryIO, tokens: int) -> None:
    # numpy leaves room in the header for the first dimension to grow, so that it can be written again.
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(TOKEN)), "fortran_order": False, "shape": (tokens,)}
    np.lib.format.write_array_header_1_0(file, header)


def _batches(part: Path) -> Iterator[tuple[pa.Array, pa.Array, pa.Array]]:
    """Ids, texts and sha256 of documents, at most BATCH bytes of text at a time, or one document."""
    for batch in read_columns(part, ["id", "text", "sha256"], ROWS):
        ends = np.cumsum(pc.binary_length(batch["text"]).to_numpy())
        first = 0
        while first < len(ends):
            begins = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, begins + BATCH, side="right")))
            rows = batch.slice(first, last - first)
            yield rows["id"], rows["text"], rows["sha256"]
            first = last


def _compare(
    reference: Reference, identifiers: pa.Array, texts: pa.Array, digests: pa.Array,
    ids: NDArray[np.uint32], lengths: NDArray[np.int32], first: bool,
) -> int:  # fmt: skip
    """Compare the sample with the reference, and the first document of a file; returns how many there were.

    Raises:
        Unequal: a document has other ids.
    """
    chosen = np.array(pc.starts_with(digests, SAMPLE))
    chosen[0] |= first
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return 0
    expected, numbers = reference.encode(texts.take(pa.array(rows)))
    ends = np.cumsum(lengths)
    got = [ids[ends[row] - lengths[row] : ends[row]] for row in rows]
    for row, ours, theirs in zip(rows, got, np.split(expected, np.cumsum(numbers)[:-1]), strict=True):
        if not np.array_equal(ours, theirs):
            raise Unequal(f"gigatoken and tokenizers do not agree on {identifiers[row]}; please report this")
    return len(rows)
