"""PubMed files of any size for measuring: real citations again and again, under new PMIDs, their words shuffled.

The words are shuffled within each title and abstract, so that no copy is a duplicate or near duplicate of another, and
everything else (lengths, fields, markup, the share of records without an abstract) stays what it is.
"""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from base.errors import UserError
from data_prep.parse.sources import find_sources

RECORD = re.compile(rb"<PubmedArticle>.*?</PubmedArticle>", re.S)
TEXT = re.compile(rb"(<(?:AbstractText|ArticleTitle)(?: [^>]*)?>)([^<]+)")
PMID = re.compile(rb"(<MedlineCitation[^>]*>\s*<PMID[^>]*>)\d+")
HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n'
A_FILE = 30_000  # citations, as NLM's


def write_citations(source: str, folder: Path, citations: int, a_file: int = A_FILE) -> list[Path]:
    """Write files named as NLM's are; the first copy of each citation is the original one.

    Raises:
        UserError: ``source`` holds no records with the root of today.
    """
    folder.mkdir(parents=True, exist_ok=True)
    originals = list(_records(source))
    if not originals:
        raise UserError(f"{source}: holds no <PubmedArticle>")
    random = Random(17)
    paths = []
    for number, first in enumerate(range(0, citations, a_file), start=1):
        path = folder / f"pubmed26n{number:04d}.xml.gz"
        with gzip.open(path, "wb", compresslevel=6) as file:
            file.write(HEAD)
            for index in range(first, min(first + a_file, citations)):
                record = PMID.sub(rb"\g<1>%d" % (index + 1), originals[index % len(originals)], count=1)
                file.write(
                    (TEXT.sub(lambda match: _shuffled(match, random), record) if index >= len(originals) else record)
                    + b"\n"
                )
            file.write(b"</PubmedArticleSet>\n")
        paths.append(path)
    return paths


def _records(source: str) -> Iterator[bytes]:
    for found in find_sources(source):
        data = Path(found.location).read_bytes()
        yield from RECORD.findall(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)


def _shuffled(match: re.Match[bytes], random: Random) -> bytes:
    words = match[2].split()
    random.shuffle(words)
    return match[1] + b" ".join(words)
