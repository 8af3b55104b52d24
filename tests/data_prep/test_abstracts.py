"""Rules and texts of PubMed records, a batch at a time, are those of one record at a time."""

import random
from typing import Any

import pyarrow as pa

from data_prep.parse.rows import PUBMED
from data_prep.schema import Select
from data_prep.select.abstracts import judge, own_columns, texts
from data_prep.select.reasons import NAMES


def made_rows() -> pa.RecordBatch:
    dice = random.Random(6)
    rows = [
        {
            "pmid": number,
            "title": dice.choice([None, "", "Title.", "Über β."]),
            "abstract": dice.choice([None, "", "Text.", "One\ntwo."]),
            "languages": dice.choice([[], ["eng"], ["fre"], ["ger", "eng"], ["rus", "fre"]]),
            "types": [],
            **{name: dice.choice([None, False, False, True]) for name in ("retracted", "concern", "any_pmcid")},
        }
        for number in range(1, 600)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=PUBMED)


def reason(row: dict[str, Any], settings: Select) -> str:
    """The rules, a record at a time."""
    if not row["title"] and not row["abstract"]:
        return "empty"
    if settings.require_abstract and not row["abstract"]:
        return "title_only"
    if settings.drop_retracted and row["retracted"]:
        return "retracted"
    if settings.drop_concern and row["concern"]:
        return "concern"
    if settings.languages is not None and not set(settings.languages) & set(row["languages"]):
        return "language"
    return "overlap" if settings.overlap == "pile" and row["any_pmcid"] else ""


def test_the_first_rule_that_a_row_breaks_is_its_reason() -> None:
    rows = made_rows()
    off = Select(require_abstract=False, drop_retracted=False, drop_concern=False)
    on = Select(drop_concern=True, overlap="pile", languages=["eng", "rus"])
    for settings, reasons in ((Select(), 4), (off, 2), (on, 7)):
        found = [NAMES[code] for code in judge(rows, settings)]
        assert found == [reason(row, settings) for row in rows.to_pylist()] and len(set(found)) == reasons
    assert judge(rows.slice(0, 0), on).tolist() == []


def test_a_text_is_title_and_abstract_or_what_there_is() -> None:
    for rows in (made_rows(), made_rows().slice(100, 9), made_rows().slice(0, 0)):
        expected = ["\n".join(filter(None, (row["title"], row["abstract"]))) for row in rows.to_pylist()]
        assert texts(rows).to_pylist() == expected


def test_languages_are_one_string_or_none() -> None:
    rows = made_rows()
    assert own_columns(rows)["language"].to_pylist() == [",".join(r["languages"]) or None for r in rows.to_pylist()]
