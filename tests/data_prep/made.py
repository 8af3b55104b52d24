"""PubMed files made for one test, and runs over them."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep import pipeline

YAML = "yamls/data/quickstart.yaml"
HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, '
    '1st January 2025//EN" "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">\n'
)
SMALL = (  # enough for one sequence of each split from a few dozen documents
    "executor.workers=1", "sample.citations=150", "tokenizer.vocab_size=600", "shards.max_seq_len=64",
    "shards.size_limit=65536", "select.quality.min_words=null",
)  # fmt: skip

BOTH = ("pmc=sample", "sample.articles=40", "select.near_duplicates.threshold=0.8")  # more than the YAML: all there is


def article(
    pmid: int | str | None, abstract: str | None = "Text.", title: str = "A title.", version: int = 1, more: str = "",
    data: str = "", language: str = "eng",
) -> str:  # fmt: skip
    """One PubmedArticle; ``abstract`` is the content of AbstractText, or, when it begins with ``<A``, of Abstract."""
    number = "" if pmid is None else f'<PMID Version="{version}">{pmid}</PMID>'
    if abstract is not None and not abstract.startswith("<A"):
        abstract = f"<AbstractText>{abstract}</AbstractText>"
    inner = "" if abstract is None else f"<Abstract>{abstract}</Abstract>"
    return (
        f"<PubmedArticle><MedlineCitation>{number}<Article><Journal><JournalIssue><PubDate><MedlineDate>1998 Dec-1999"
        f" Jan</MedlineDate></PubDate></JournalIssue><Title>Journal of Tests</Title></Journal><ArticleTitle>{title}"
        f"</ArticleTitle>{inner}<Language>{language}</Language></Article>{more}</MedlineCitation><PubmedData>"
        f"<ArticleIdList/>{data}</PubmedData></PubmedArticle>\n"
    )


def deletion(*pmids: int) -> str:
    return "<DeleteCitation>" + "".join(f'<PMID Version="1">{pmid}</PMID>' for pmid in pmids) + "</DeleteCitation>"


def pubmed_file(path: Path, *records: str, head: str = HEAD) -> Path:
    """A file in today's form, packed when its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = f"{head}<PubmedArticleSet>\n{''.join(records)}</PubmedArticleSet>\n".encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def prepare(pubmed: object, out: object, *arguments: str) -> None:
    """All stages, or the named ones, at a small size, in this process."""
    pipeline.run(YAML, [f"pubmed={pubmed}", f"out={out}", *SMALL, *arguments])


def ledger(out: Path) -> dict[str, Any]:
    return json.loads((out / "ledger.json").read_text())


def documents(out: Path) -> dict[str, dict[str, Any]]:
    """id → row."""
    return {row["id"]: row for row in pq.read_table(out / "documents").to_pylist()}


def dropped(out: Path) -> dict[str, str]:
    """id → reason; only for tests in which an id is dropped once."""
    return {row["id"]: row["reason"] for row in pq.read_table(out / "dropped").to_pylist()}


def content(out: Path) -> dict[str, str]:
    """Every file that is handed over → its hash. The work folder is not."""
    return {
        str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(out.rglob("*"))
        if file.is_file() and file.relative_to(out).parts[0] != "work"
    }
