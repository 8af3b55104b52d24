"""What one record tells of an article, and what therefore holds for its other records too.

An article may be there as an abstract and as a full text. That it is not wanted, was retracted, or that a benchmark is
made of it is often told by one of the two alone: NLM marks retractions in PubMed while the publisher's XML stays as it
was, and a full text may lack its PMID. The stage gathers it over all files and leaves one file for the tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from base.progress import progress
from base.storage import write_aside
from data_prep.identifiers import TYPES, Names
from data_prep.select.keys import ParsedFile
from data_prep.select.reasons import CODES, KEPT

MARKS = {"pubmed": ("retracted", "concern"), "pmc": ("retracted",)}  # columns of the rows of each source
SCHEMA = pa.schema([("told", pa.string()), *TYPES.items()])


class Articles:
    """Articles, each by the names that one of its records carries."""

    def __init__(self, rows: pa.Table):
        """Args: rows: with the columns ``pmid``, ``pmcid`` and ``doi``."""
        self.pmid, self.pmcid = (rows[kind].drop_null() for kind in ("pmid", "pmcid"))
        dois, known = pc.utf8_lower(rows["doi"]), [pc.is_valid(rows[kind]) for kind in ("pmid", "pmcid")]
        self.dois = {
            has: dois.filter(reduce(pc.and_, map(pc.equal, known, has))).drop_null()
            for has in product((False, True), repeat=2)
        }

    def include(self, rows: pa.RecordBatch) -> pa.Array:
        """Whether each row is a record of one of the articles: it has the PMID or PMCID of one in common, or the DOI.

        Two articles may share a DOI, so it does not count where the two records have both a PMID, or both a PMCID, for
        these differ.
        """
        found = pc.or_(pc.is_in(rows["pmid"], value_set=self.pmid), pc.is_in(rows["pmcid"], value_set=self.pmcid))
        doi = pc.utf8_lower(rows["doi"])
        for (has_pmid, has_pmcid), dois in self.dois.items():
            shared = pc.is_in(doi, value_set=dois, skip_nulls=True)
            for kind, both in (("pmid", has_pmid), ("pmcid", has_pmcid)):
                shared = pc.and_(shared, pc.is_null(rows[kind])) if both else shared
            found = pc.or_(found, shared)
        return found


@dataclass(frozen=True)
class KnownArticles:
    """What tasks look up.

    Attributes:
        excluded: all names of the articles of ``select.exclude``.
        retracted, concern: by any record that counts.
        context_pmcid, context_pmid: pairs, sorted: of articles that a benchmark is made of.
    """

    excluded: Names
    retracted: Articles
    concern: Articles
    context_pmcid: NDArray[np.int64]
    context_pmid: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path) -> "KnownArticles":
        """Read what :func:`gather` wrote."""
        table = pq.read_table(path)

        def told(what: str) -> pa.Table:
            return table.filter(pc.equal(table["told"], what)).combine_chunks()

        excluded, contexts = told("excluded"), told("context").sort_by("pmcid")
        names = Names(*(excluded[kind].drop_null().combine_chunks() for kind in TYPES))
        pmcid, pmid = (contexts[kind].to_numpy() for kind in ("pmcid", "pmid"))
        return cls(names, Articles(told("retracted")), Articles(told("concern")), pmcid, pmid)

    def marked(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with what their articles' other records tell in the columns ``retracted`` and ``concern``."""
        for name, articles in (("retracted", self.retracted), ("concern", self.concern)):
            mark = articles.include(rows)
            if name in rows.schema.names:
                rows = rows.set_column(rows.schema.get_field_index(name), name, pc.or_(mark, rows[name]))
            else:
                rows = rows.append_column(name, mark)
        return rows

    def context_pmids(self, pmid: NDArray[np.int64], pmcid: NDArray[np.int64]) -> NDArray[np.int64]:
        """The PMIDs (-1 for none), filled in for what a benchmark is made of where only the abstract tells them."""
        if not len(self.context_pmcid):
            return pmid
        place = np.minimum(np.searchsorted(self.context_pmcid, pmcid), len(self.context_pmcid) - 1)
        return np.where((pmid == -1) & (self.context_pmcid[place] == pmcid), self.context_pmid[place], pmid)


def gather(
    files: Sequence[ParsedFile], fates: Sequence[NDArray[np.uint8]], excluded: Sequence[str],
    contexts: NDArray[np.int64], path: Path,
) -> None:  # fmt: skip
    """Write what the records tell of their articles. Records that others replaced tell nothing, but for metadata
    without a text: an article of another file took their place, which knows less.

    Args:
        fates: for each file the fate of each row, as far as identifiers decide it.
        excluded: names in their normal form.
        contexts: PMIDs of the abstracts that benchmarks are made of.
    """
    names = Names.of(excluded)
    pieces = [_piece("excluded", pa.table({kind: getattr(names, kind)})) for kind in TYPES]
    wanted = pa.array(contexts, pa.int64())
    with progress("select, what is known of articles", len(files), "files") as advance:
        for file, fate in zip(files, fates, strict=True):
            rows = pq.read_table(file.rows, columns=["kind", *MARKS[file.source], *TYPES])
            metadata = pc.and_(pc.equal(rows["kind"], "not_fetched"), pa.array(fate == CODES["replaced"]))
            counts = pc.or_(pa.array(fate == KEPT), metadata)
            for mark in MARKS[file.source]:
                pieces.append(_piece(mark, rows.filter(pc.and_(rows[mark], counts))))
            if file.source == "pubmed" and len(wanted):
                is_context = pc.and_(pc.is_in(rows["pmid"], value_set=wanted), pc.is_valid(rows["pmcid"]))
                pieces.append(_piece("context", rows.filter(pc.and_(is_context, counts))))
            advance(1)
    with write_aside(path) as aside:
        pq.write_table(pa.concat_tables(pieces), aside)


def _piece(told: str, rows: pa.Table) -> pa.Table:
    """Rows of SCHEMA; names that they lack are null."""
    columns = [rows[kind] if kind in rows.column_names else pa.nulls(len(rows), TYPES[kind]) for kind in TYPES]
    return pa.table([pa.array([told] * len(rows), pa.string()), *columns], schema=SCHEMA)
