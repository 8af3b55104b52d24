"""The rules for one PubMed record, and the document that it becomes."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.parse.article import doi_key
from data_prep.schema import Select

COLUMNS = [
    "pmid", "version", "title", "abstract", "languages", "journal", "year", "types", "retracted", "concern", "pmcid",
    "any_pmcid", "doi",
]  # fmt: skip


def judge(rows: pa.RecordBatch, settings: Select) -> list[str]:
    """The first rule that each row breaks; empty where it breaks none."""
    names = ["title", "abstract", "languages", "retracted", "concern", "any_pmcid"]
    columns = (rows[name].to_pylist() for name in names)
    return [_reason(settings, *row) for row in zip(*columns, strict=True)]


def _reason(
    settings: Select, title: str, abstract: str, languages: list[str], retracted: bool, concern: bool, any_pmcid: bool
) -> str:
    if not title and not abstract:
        return "empty"
    if settings.require_abstract and not abstract:
        return "title_only"
    if settings.drop_retracted and retracted:
        return "retracted"
    if settings.drop_concern and concern:
        return "concern"
    if settings.languages is not None and not set(settings.languages) & set(languages):
        return "language"
    if settings.overlap == "pile" and any_pmcid:
        return "overlap"
    return ""


def texts(rows: pa.RecordBatch) -> list[str]:
    """Title, line feed, abstract, as in The Pile; one alone when the other is missing."""
    return [
        f"{title}\n{abstract}" if title and abstract else title or abstract
        for title, abstract in zip(rows["title"].to_pylist(), rows["abstract"].to_pylist(), strict=True)
    ]


def identifiers(rows: pa.RecordBatch) -> list[str]:
    """``pmid:123``"""
    return [f"pmid:{pmid}" for pmid in rows["pmid"].to_pylist()]


def doi_keys(rows: pa.RecordBatch) -> NDArray[np.uint64]:
    """What full texts are matched by; 0 for none."""
    return np.array([doi_key(doi) if doi else 0 for doi in rows["doi"].to_pylist()], dtype=np.uint64)


def own_columns(rows: pa.RecordBatch) -> dict[str, Any]:
    """The columns of a document that come from other places here than in the other source."""
    return {
        "language": [",".join(languages) or None for languages in rows["languages"].to_pylist()],
        "license": pa.nulls(rows.num_rows, pa.string()),
        "types": rows["types"],
        "source_md5": pa.nulls(rows.num_rows, pa.string()),
    }
