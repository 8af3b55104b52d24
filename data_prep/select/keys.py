"""The identifiers of all parsed rows, in flat arrays, and what the files make of each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.select.fold import DELETED, OLDER_VERSION, REPLACED, fold
from data_prep.select.reasons import CODES, IS_DELETION, KEPT

OF_FOLD = {REPLACED: CODES["replaced"], OLDER_VERSION: CODES["older_version"], DELETED: CODES["deleted"]}
# Of each row: identifier (-1 for none), version, fate, whether there is more than metadata.
Keys = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint8], NDArray[np.bool_]]
PUBLISHED = 1 << 20  # a published version counts for more than any version of the author's manuscript


@dataclass(frozen=True)
class ParsedFile:
    """One file of parsed rows."""

    source: str  # pubmed or pmc
    name: str  # of the input file, as the ledger has it
    rows: Path
    part: str  # name for files made from it, without a suffix


def first_fates(files: Sequence[ParsedFile]) -> list[NDArray[np.uint8]]:
    """For each file the fate of each row, as far as identifiers decide it. Needs about 60 bytes a row in all.

    Metadata without a text never takes the place of an article of its version, in whichever file it comes.

    Files must come in the order in which they replace each other, each source by itself.
    """
    fates: dict[int, NDArray[np.uint8]] = {}
    for source in ("pubmed", "pmc"):
        chosen = [index for index, file in enumerate(files) if file.source == source]
        if not chosen:
            continue
        read = _pubmed_keys if source == "pubmed" else _pmc_keys
        keys = [read(files[index].rows) for index in chosen]
        lengths = [len(fate) for _, _, fate, _ in keys]
        identifier, version, fate, has_text = (np.concatenate(column) for column in zip(*keys, strict=True))
        del keys
        takes_part = ((fate == KEPT) | (fate == IS_DELETION)) & (identifier != -1)
        file = np.where(has_text, np.repeat(np.arange(len(chosen), dtype=np.int32), lengths), np.int32(-1))
        rows = np.flatnonzero(takes_part)
        folded = fold(identifier[rows], version[rows], file[rows], fate[rows] == IS_DELETION)
        for outcome, code in OF_FOLD.items():
            fate[rows[folded == outcome]] = code
        for index, part in zip(chosen, np.split(fate, np.cumsum(lengths)[:-1]), strict=True):
            fates[index] = part
    return [fates[index] for index in range(len(files))]


def _pubmed_keys(path: Path) -> Keys:
    table = pq.read_table(path, columns=["pmid", "version", "kind"])
    kind = table["kind"].combine_chunks()
    fate = np.full(len(table), KEPT, dtype=np.uint8)
    pmid = table["pmid"].fill_null(-1).to_numpy()
    fate[pmid < 0] = CODES["no_pmid"]
    fate[flags(pc.starts_with(kind, "unknown:"))] = CODES["unknown_element"]
    deletion = flags(pc.equal(kind, "deletion"))
    fate[deletion] = IS_DELETION
    return pmid, table["version"].to_numpy(), fate, np.ones(len(table), dtype=bool)


def _pmc_keys(path: Path) -> Keys:
    table = pq.read_table(path, columns=["pmcid", "doi_hash", "version", "manuscript", "kind"])
    fate = np.full(len(table), KEPT, dtype=np.uint8)
    pmcid = table["pmcid"].fill_null(-1).to_numpy()
    # Below -1, so that it meets neither a PMCID nor the lack of one; halved, for it must fit into 63 bits.
    of_doi = -2 - (table["doi_hash"].fill_null(0).to_numpy() >> np.uint64(1)).astype(np.int64)
    has_doi = flags(pc.is_valid(table["doi_hash"].combine_chunks()))
    identifier = np.where(pmcid >= 0, pmcid, np.where(has_doi, of_doi, -1))
    kinds = table["kind"].to_pylist()
    for index, kind in enumerate(kinds):
        if kind not in ("article", "not_fetched"):
            fate[index] = CODES[kind]
    fate[(fate == KEPT) & (identifier == -1)] = CODES["no_identifier"]
    manuscript = flags(table["manuscript"].combine_chunks())
    version = np.where(manuscript, 0, PUBLISHED) + np.minimum(table["version"].to_numpy(), PUBLISHED - 1)
    has_text = np.array([kind == "article" for kind in kinds], dtype=bool)
    return identifier, version.astype(np.int32), fate, has_text


def flags(array: pa.Array) -> NDArray[np.bool_]:
    """Where an array of bools is true; null is false."""
    return np.asarray(array.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)
