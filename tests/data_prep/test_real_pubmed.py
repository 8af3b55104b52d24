"""Real files of NLM's: the counts that are known of them, and the whole way."""

import gzip
import hashlib
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from damage import damaged
from made import documents, ledger

from data_prep import pipeline
from data_prep.parse.pubmed import read_pubmed
from data_prep.parse.pubmed_record import Record
from data_prep.parse.refusal import Refused
from data_prep.parse.rows import write_citations
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
def test_damaged_real_records_are_read_or_refused_and_can_be_written_down(real_data: Path, tmp_path: Path) -> None:
    random = Random(6)
    source = next(source for source in find_sources(str(real_data / "pubmed")) if source.name.endswith(".gz"))
    data = gzip.decompress(Path(source.location).read_bytes())
    records = [match[0] for match in re.finditer(rb"<(PubmedArticle|MedlineCitation)\b.*?</\1>", data, re.S)]
    outcomes: Counter[str] = Counter()
    for _ in range(600):
        few = b"".join(random.sample(records, 3))
        (tmp_path / "a.xml").write_bytes(damaged(b"<PubmedArticleSet>" + few + b"</PubmedArticleSet>", random))
        try:
            write_citations(read_pubmed(tmp_path / "a.xml"), tmp_path / "a.parquet")
            outcomes["read"] += 1
        except Refused:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50 and len(outcomes) == 2, outcomes


@pytest.mark.slow
def test_real_files_go_the_whole_way(real_data: Path, tmp_path: Path) -> None:
    run(real_data / "pubmed", tmp_path, "select.drop_retracted=false")
    total = ledger(tmp_path)["total"]
    assert total["in"] == 1664 and total["kept"] == 1195 == len(documents(tmp_path))
    assert sum(total["dropped"].values()) == 1664 - 1195
    for row in documents(tmp_path).values():
        assert row["text"].startswith(row["title"] or "") and row["text"] == row["text"].strip()
        assert hashlib.sha256(row["text"].encode()).hexdigest() == row["sha256"]
