"""The rules for one PMC article, and the document that it becomes."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_prep.parse.licenses import permitted
from data_prep.schema import License, Select
from data_prep.select.reasons import CODES

TO_JUDGE = [
    "kind", "text", "body_words", "language", "article_type", "license", "retracted", "manuscript", "historical_ocr",
    "pmid", "pmcid", "doi", "doi_hash",
]  # fmt: skip
TO_WRITE = [
    "title", "text", "language", "article_type", "license", "journal", "year", "version", "md5", "pmid", "pmcid", "doi",
]  # fmt: skip


def judge(rows: pa.RecordBatch, settings: Select) -> NDArray[np.uint8]:
    """The code of the first rule that each row breaks, or KEPT. ``concern`` is what the article's citation tells
    (:meth:`data_prep.select.known_articles.KnownArticles.marked`)."""
    names = [
        "kind", "retracted", "concern", "historical_ocr", "manuscript", "license", "article_type", "language",
        "body_words",
    ]  # fmt: skip
    columns = (rows[name].to_pylist() for name in names)
    reasons = [_reason(settings, *row) for row in zip(*columns, strict=True)]
    return np.array([CODES[reason] for reason in reasons], dtype=np.uint8)


def _reason(
    settings: Select, kind: str, retracted: bool, concern: bool, historical_ocr: bool, manuscript: bool,
    license: License | None, article_type: str | None, language: str | None, body_words: int,
) -> str:  # fmt: skip
    if settings.drop_retracted and retracted:
        return "retracted"
    if settings.drop_concern and concern:
        return "concern"
    if historical_ocr:
        return "historical_ocr"
    if manuscript and not settings.manuscripts:
        return "manuscript"
    if not permitted(license, settings.license):
        return "license"
    if kind == "not_fetched":
        return "not_fetched"
    if article_type in settings.drop_article_types:
        return "article_type"
    if settings.full_text_languages is not None and language not in settings.full_text_languages:
        return "language"
    if body_words < (settings.quality.min_body_words or 0):
        return "no_body"
    return ""


def texts(rows: pa.RecordBatch) -> pa.Array:
    """As parsing made them."""
    return rows["text"]


def identifiers(rows: pa.RecordBatch) -> pa.Array:
    """``pmcid:PMC123``, or ``doi:10.…`` where a publisher's file has no PMCID."""
    names = [
        f"pmcid:PMC{pmcid}" if pmcid is not None else f"doi:{doi.lower()}"
        for pmcid, doi in zip(rows["pmcid"].to_pylist(), rows["doi"].to_pylist(), strict=True)
    ]
    return pa.array(names, pa.string())


def doi_keys(rows: pa.RecordBatch) -> NDArray[np.uint64]:
    """What abstracts are matched by, as parsing made it; 0 for none."""
    return rows["doi_hash"].fill_null(0).to_numpy(zero_copy_only=False)


def own_columns(rows: pa.RecordBatch) -> dict[str, Any]:
    """The columns of a document that come from other places here than in the other source."""
    return {
        "language": rows["language"],
        "license": rows["license"],
        "types": [[kind] if kind else [] for kind in rows["article_type"].to_pylist()],
        "source_md5": rows["md5"],
    }
