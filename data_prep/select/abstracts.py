"""The rules for one PubMed record, and the document that it becomes."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_prep.parse.article import doi_key
from data_prep.schema import Select
from data_prep.select.keys import flags
from data_prep.select.reasons import Broken, first_broken

TO_JUDGE = ["title", "abstract", "languages", "retracted", "concern", "any_pmcid", "pmid", "pmcid", "doi"]
TO_WRITE = ["title", "abstract", "languages", "journal", "year", "types", "version", "pmid", "pmcid", "doi"]


def judge(rows: pa.RecordBatch, settings: Select) -> NDArray[np.uint8]:
    """The code of the first rule that each row breaks, or KEPT."""
    has_title, has_abstract = (flags(pc.greater(pc.binary_length(rows[name]), 0)) for name in ("title", "abstract"))
    broken: Broken = {"empty": ~has_title & ~has_abstract}
    if settings.require_abstract:
        broken["title_only"] = ~has_abstract
    if settings.drop_retracted:
        broken["retracted"] = flags(rows["retracted"])
    if settings.drop_concern:
        broken["concern"] = flags(rows["concern"])
    if settings.languages is not None:
        broken["language"] = ~_any_of(rows["languages"], settings.languages)
    if settings.overlap == "pile":
        broken["overlap"] = flags(rows["any_pmcid"])
    return first_broken(broken, rows.num_rows)


def _any_of(lists: pa.Array, wanted: list[str]) -> NDArray[np.bool_]:
    """Which lists hold one of these."""
    among = flags(pc.is_in(pc.list_flatten(lists), value_set=pa.array(wanted, pa.string())))
    found = np.zeros(len(lists), dtype=bool)
    found[np.asarray(pc.list_parent_indices(lists))[among]] = True
    return found


def texts(rows: pa.RecordBatch) -> pa.Array:
    """Title, line feed, abstract, as in The Pile; one alone when the other is missing."""
    title, abstract = (pc.fill_null(rows[name], "") for name in ("title", "abstract"))
    both = pc.and_(pc.not_equal(title, ""), pc.not_equal(abstract, ""))
    return pc.binary_join_element_wise(title, abstract, pc.if_else(both, "\n", ""))


def identifiers(rows: pa.RecordBatch) -> pa.Array:
    """``pmid:123``"""
    return pc.binary_join_element_wise("pmid:", pc.cast(rows["pmid"], pa.string()), "")


def doi_keys(rows: pa.RecordBatch) -> NDArray[np.uint64]:
    """What full texts are matched by; 0 for none."""
    return np.array([doi_key(doi) if doi else 0 for doi in rows["doi"].to_pylist()], dtype=np.uint64)


def own_columns(rows: pa.RecordBatch) -> dict[str, Any]:
    """The columns of a document that come from other places here than in the other source."""
    languages = pc.binary_join(rows["languages"], ",")
    return {
        "language": pc.if_else(pc.equal(languages, ""), None, languages),
        "license": pa.nulls(rows.num_rows, pa.string()),
        "types": rows["types"],
        "source_md5": pa.nulls(rows.num_rows, pa.string()),
    }
