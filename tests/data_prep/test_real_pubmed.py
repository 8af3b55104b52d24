"""Real files of NLM's: the counts that are known of them, and the whole way."""

import hashlib
from pathlib import Path

import pytest
from made import documents, ledger

from data_prep import pipeline
from data_prep.parse.pubmed import read_pubmed
from data_prep.parse.pubmed_record import Record
from data_prep.parse.sources import find_sources


def run(source: Path, out: Path, *arguments: str) -> None:
    pipeline.run("yamls/data/quickstart.yaml", [f"pubmed={source}", f"out={out}", "executor.workers=1", *arguments])


def test_real_records_and_abstracts_are_all_found(real_data: Path) -> None:
    records = [
        record
        for source in find_sources(str(real_data / "pubmed"))
        for record in read_pubmed(source.location)
        if isinstance(record, Record)
    ]
    assert len(records) == 1664
    assert len({record.pmid for record in records}) == 1407
    assert len({record.pmid for record in records if record.abstract}) == 1195
    assert sum(record.truncated for record in records) == 6
    assert not any("TRUNCATED AT" in record.abstract or "\u00a0" in record.abstract for record in records)


@pytest.mark.slow
def test_real_files_go_the_whole_way(real_data: Path, tmp_path: Path) -> None:
    run(real_data / "pubmed", tmp_path, "select.drop_retracted=false")
    total = ledger(tmp_path)["total"]
    assert total["in"] == 1664 and total["kept"] == 1195 == len(documents(tmp_path))
    assert sum(total["dropped"].values()) == 1664 - 1195
    for row in documents(tmp_path).values():
        assert row["text"].startswith(row["title"] or "") and row["text"] == row["text"].strip()
        assert hashlib.sha256(row["text"].encode()).hexdigest() == row["sha256"]
