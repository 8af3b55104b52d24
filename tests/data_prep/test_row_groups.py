"""Long texts make small row groups, and a reader never holds two: that bounds the memory of every stage."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_prep.documents import read_columns
from data_prep.parse.article import Article
from data_prep.parse.pubmed_record import Deletion, Record
from data_prep.parse.rows import write_articles, write_citations


def test_a_group_ends_with_the_text_that_fills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.parse.rows.CHARACTERS_A_GROUP", 1000)
    lengths = [400, 400, 400, 5000, 10, 990, 1, 0]
    articles = [Article("article", f"#{number}", text="x" * length) for number, length in enumerate(lengths)]
    assert write_articles(articles, tmp_path / "rows").records == len(lengths)
    with pq.ParquetFile(tmp_path / "rows") as file:
        groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert groups == [3, 1, 2, 2]
    batches = list(read_columns(tmp_path / "rows", ["place", "text"], rows=2))
    assert [batch.num_rows for batch in batches] == [2, 1, 1, 2, 2]
    assert [len(text) for batch in batches for text in batch["text"].to_pylist()] == lengths
    assert [place for batch in batches for place in batch["place"].to_pylist()] == [one.place for one in articles]


def test_deletions_and_records_without_text_are_rows_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.parse.rows.CHARACTERS_A_GROUP", 10)
    rows = [Record(pmid=1, abstract="x" * 20), Deletion(1, 1), Record(pmid=2), Deletion(None, 1)]
    counts = write_citations(rows, tmp_path / "rows")
    assert (counts.records, counts.deletions) == (2, 2)
    kinds = [kind for batch in read_columns(tmp_path / "rows", ["kind"]) for kind in batch["kind"].to_pylist()]
    assert kinds == ["article", "deletion", "article", "deletion"]
