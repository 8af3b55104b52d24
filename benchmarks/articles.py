"""A tarball of full texts of any size for measuring: real articles again and again, under new PMCIDs, words shuffled.

As with the citations (citations.py), the words are shuffled within each run of text of a paragraph, so that no copy
repeats another, and everything else stays what it is.
"""

import gzip
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from base.errors import UserError

ARTICLE = re.compile(rb"<article[\s>].*</article>", re.S)
PARAGRAPH = re.compile(rb"(<p(?:\s[^<>]*)?>)([^<]+)")
PMCID = re.compile(rb"""(<article-id [^<>]*pub-id-type=["']pmc(?:id)?["'][^<>]*>)[^<]*""")
A_CONTAINER = 20_000  # articles: what data_prep's download packs together


def write_articles(source: Path, path: Path, articles: int) -> None:
    """One ``.tar.gz`` with members named as PMC's are; the first copy of each article is the original one.

    Raises:
        UserError: ``source`` holds no JATS.
    """
    originals = list(_originals(source))
    if not originals:
        raise UserError(f"{source}: holds no <article>")
    random = Random(17)
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb", compresslevel=1) as file, tarfile.open(fileobj=file, mode="w|") as archive:
        for index in range(articles):
            data = originals[index % len(originals)]
            if index >= len(originals):
                data = PARAGRAPH.sub(lambda match: match[1] + _shuffled(match[2], random), data)
            data = PMCID.sub(rb"\g<1>PMC%d" % (index + 1), data)
            info = tarfile.TarInfo(f"PMC{index + 1}.xml")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _originals(source: Path) -> Iterator[bytes]:
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                files = [archive.extractfile(member) for member in archive if member.isfile()]
                found = [file.read() for file in files if file is not None]
        else:
            data = path.read_bytes()
            found = [gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data]
        yield from (match[0] for data in found if (match := ARTICLE.search(data)) and b"<!ENTITY" not in data)


def _shuffled(text: bytes, random: Random) -> bytes:
    words = text.split()
    random.shuffle(words)
    return b" ".join(words)
