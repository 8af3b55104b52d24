"""The checks of ``OUT/documents``, ``OUT/dropped`` and the ledger, and of documents against shards."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from base.storage import local_copy
from data_prep.documents import DOCUMENTS, DROPPED, LEDGER, document_keys, held_out, read_columns
from data_prep.select.stage import CONTAMINATION, DUPLICATES
from data_prep.verify.faults import Faults
from data_prep.verify.shards import sampled


@dataclass(frozen=True)
class PartCheck:
    """One file of documents or of dropped records to read; the other names are as in ``ShardCheck``."""

    location: str
    keys: Path
    sample: int
    sample_seed: int
    folder: Path


@dataclass
class PartFound:
    """What one file holds: ``counts`` by (source file, reason), with ``""`` for a document."""

    faults: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    texts: dict[str, str] = field(default_factory=dict)


def check_documents(check: PartCheck) -> PartFound:
    """Read one file of documents."""
    found = PartFound()
    unsound = 0
    all_keys = [np.empty((0, 2), dtype=np.uint64)]
    try:
        with local_copy(check.location, check.folder) as path:
            for batch in read_columns(path, ["id", "text", "sha256", "source_file", "source"]):
                names, texts, hashes, files, sources = (column.to_pylist() for column in batch.columns)
                unsound += sum(map(_is_unsound, texts, hashes))
                found.counts.update((file, "") for file in files)
                found.sources.update(sources)
                keys = document_keys(names)
                all_keys.append(keys)
                rows = np.flatnonzero(sampled(keys, check.sample, check.sample_seed)).tolist()
                found.texts |= {names[row]: texts[row] for row in rows}
    except (pa.ArrowException, OSError) as error:
        found.faults.append(f"{check.location}: cannot be read as Parquet: {error}")
    if unsound:
        found.faults.append(f"{check.location}: {unsound} texts do not fit their sha256")
    np.save(check.keys, np.concatenate(all_keys))
    return found


def check_dropped(check: PartCheck) -> PartFound:
    """Read one file of dropped records."""
    found = PartFound()
    try:
        with local_copy(check.location, check.folder) as path:
            for batch in read_columns(path, ["source_file", "reason"], rows=50_000):
                found.counts.update(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    except (pa.ArrowException, OSError) as error:
        found.faults.append(f"{check.location}: cannot be read as Parquet: {error}")
    return found


def _is_unsound(text: str, expected: str) -> bool:
    return hashlib.sha256(text.encode()).hexdigest() != expected


def check_ledger(ledger: dict[str, Any], found: Sequence[PartFound], faults: Faults) -> None:
    """The ledger adds up, and says of each source file what documents and dropped records say."""
    entries = {"total": ledger["total"]} | ledger["files"] | ledger.get("sources", {})
    for name, entry in entries.items():
        adds_up = entry["in"] == entry["kept"] + sum(entry["dropped"].values())
        faults.check(adds_up, "select", f"{LEDGER}: {name}: kept and dropped do not add up to {entry['in']}")
    for group in [name for name in ("files", "sources") if name in ledger]:
        for key in ("in", "kept"):
            total = sum(entry[key] for entry in ledger[group].values())
            fits = total == ledger["total"][key]
            faults.check(fits, "select", f"{LEDGER}: {key!r} of the {group} is not that of the total")
        dropped: Counter[str] = Counter()
        for entry in ledger[group].values():
            dropped.update(entry["dropped"])
        fits = +dropped == +Counter(ledger["total"]["dropped"])
        faults.check(fits, "select", f"{LEDGER}: 'dropped' of the {group} is not that of the total")

    counts: Counter[tuple[str, str]] = Counter()
    sources: Counter[str] = Counter()
    for part in found:
        counts.update(part.counts)
        sources.update(part.sources)
    noted = {(file, ""): entry["kept"] for file, entry in ledger["files"].items()}
    for file, entry in ledger["files"].items():
        noted |= {(file, reason): number for reason, number in entry["dropped"].items()}
    for file, reason in sorted(key for key in noted.keys() | counts.keys() if noted.get(key, 0) != counts[key]):
        there, said = counts[file, reason], noted.get((file, reason), 0)
        message = f"{DROPPED}: {there} rows of {file} for {reason!r}, but the ledger dropped {said}"
        if not reason:
            message = f"{DOCUMENTS}: {there} documents of {file}, but the ledger kept {said}"
        faults.check(False, "select", message)
    for source, entry in ledger.get("sources", {}).items():
        fits = sources[source] == entry["kept"]
        faults.check(fits, "select", f"{DOCUMENTS}: {sources[source]} of {source}, but the ledger kept {entry['kept']}")


def check_reports(
    ledger: dict[str, Any], duplicates: dict[str, Any], contamination: dict[str, Any] | None, faults: Faults
) -> None:
    """What the reports beside the ledger say was dropped is what the ledger says."""
    dropped = Counter(ledger["total"]["dropped"])
    for name, reason in (("exact", "duplicate"), ("near", "near_duplicate")):
        there, said = duplicates[name]["dropped"], dropped[reason]
        faults.check(there == said, "select", f"{DUPLICATES}: {there} dropped as {name}, but the ledger {said}")
    if contamination is not None:
        total = dropped["contaminated_pmid"] + dropped["contaminated_ngram"]
        numbers = [one["documents_dropped"] for one in contamination["by_benchmark"].values()]
        fits = max(numbers, default=0) <= total <= sum(numbers)  # a document may be dropped for several benchmarks
        faults.check(fits, "select", f"{CONTAMINATION}: {numbers} dropped by benchmark, but the ledger {total} in all")


def check_placed(
    documents: NDArray[np.uint64], splits: dict[str, NDArray[np.uint64]], card: dict[str, Any], faults: Faults
) -> None:
    """Every document lies in exactly the split that its hash says, and nothing else lies there (keys of both)."""
    documents = _sorted(documents)
    again = int((documents[1:] == documents[:-1]).all(axis=1).sum())
    faults.check(again == 0, "select", f"{DOCUMENTS}: {again} ids occur more than once")
    placed = _sorted(np.concatenate(list(splits.values())))
    if not np.array_equal(documents, placed):
        missing = int((~np.isin(documents[:, 0], placed[:, 0])).sum())
        surplus = int((~np.isin(placed[:, 0], documents[:, 0])).sum())
        faults.check(
            False, "shards",
            f"doc_ids: {missing} of {len(documents)} documents are not there, {surplus} of its {len(placed)} are not "
            f"among {DOCUMENTS}" + ("" if missing or surplus else ", and some are there more than once"),
        )  # fmt: skip
    low = {split: int(held_out(keys, card["val_fraction"]).sum()) for split, keys in splits.items()}
    added = card["val_documents_added"]
    right = low["train"] == 0 and low["val"] + added == len(splits["val"])
    if right and added:
        right = bool(splits["val"][:, 0].max() <= splits["train"][:, 0].min())
    faults.check(right, "shards", "doc_ids: some documents are not in the split that the hashes of their ids say")


def _sorted(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return keys[np.lexsort((keys[:, 1], keys[:, 0]))]
