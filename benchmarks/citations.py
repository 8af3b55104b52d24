"""PubMed files of any size for measuring: real citations again and again, under new PMIDs, with other words.

The words of each title and abstract are shuffled, so that no copy is a duplicate or near duplicate of another. Then the
copies have no word that the originals lack, and a tokenizer that remembers words meets few new ones: tokenizers then is
nearly twice as fast as on 17,000 different abstracts. Given a folder of such text, the copies take their words from
there, as they stand there and as many as before. Everything else (lengths, fields, markup, the share of records without
an abstract) stays what it is.
"""

import gzip
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from xml.sax.saxutils import escape

from base.errors import UserError
from data_prep.parse.sources import find_sources

RECORD = re.compile(rb"<PubmedArticle>.*?</PubmedArticle>", re.S)
TEXT = re.compile(rb"(<(?:AbstractText|ArticleTitle)(?: [^>]*)?>)([^<]+)")
PMID = re.compile(rb"(<MedlineCitation[^>]*>\s*<PMID[^>]*>)\d+")
HEAD = (
    b'<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st '
    b'January 2025//EN" "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_250101.dtd">\n<PubmedArticleSet>\n'
)
A_FILE = 30_000  # citations, as NLM's
LONG = 200  # characters of a line that counts as a text


def write_citations(
    source: str, folder: Path, citations: int, a_file: int = A_FILE, text: Path | None = None
) -> list[Path]:
    """Write files named as NLM's are; the first copy of each citation is the original one.

    Args:
        text: folder with ``.csv`` and ``.txt`` files, a title and abstract in each line.

    Raises:
        UserError: ``source`` holds no records with the root of today.
    """
    folder.mkdir(parents=True, exist_ok=True)
    originals = list(originals_of(source))
    if not originals:
        raise UserError(f"{source}: holds no <PubmedArticle>")
    random = Random(17)
    words = _words(text, random) if text is not None else None
    paths = []
    for number, first in enumerate(range(0, citations, a_file), start=1):
        path = folder / f"pubmed26n{number:04d}.xml.gz"
        with gzip.open(path, "wb", compresslevel=6) as file:
            file.write(HEAD)
            for index in range(first, min(first + a_file, citations)):
                record = PMID.sub(rb"\g<1>%d" % (index + 1), originals[index % len(originals)], count=1)
                if index >= len(originals):
                    record = TEXT.sub(lambda match: match[1] + _other(match[2].split(), words, random), record)
                file.write(record + b"\n")
            file.write(b"</PubmedArticleSet>\n")
        paths.append(path)
    return paths


def originals_of(source: str) -> Iterator[bytes]:
    """The records with the root of today, in all PubMed files of a place."""
    for found in find_sources(source):
        data = Path(found.location).read_bytes()
        yield from RECORD.findall(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)


def _other(before: list[bytes], words: Iterator[bytes] | None, random: Random) -> bytes:
    if words is None:
        random.shuffle(before)
        return b" ".join(before)
    return b" ".join(islice(words, len(before)))


def _words(folder: Path, random: Random) -> Iterator[bytes]:
    """Without end; the texts, and from the second time on their words, in another order each time."""
    texts = [escape(line).encode().split() for line in dict.fromkeys(lines(folder))]
    if not texts:
        raise UserError(f"{folder}: no .csv or .txt file there has a line of more than {LONG} characters")
    while True:
        random.shuffle(texts)
        for one in texts:
            yield from one
        for one in texts:
            random.shuffle(one)


def lines(folder: Path) -> Iterator[str]:
    """The long lines of every ``.csv`` and ``.txt`` file."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".csv", ".txt"):
            with open(path, encoding="utf-8", errors="replace") as file:
                yield from (line.strip() for line in file if len(line) > LONG)
