"""Full-text articles and tarballs made for one test."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.parse.article import Article
from data_prep.parse.article_xml import parse_article
from data_prep.parse.jats import read_article
from data_prep.schema import ParsePmc

SPACES = 'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:mml="http://www.w3.org/1998/Math/MathML"'
ALI = 'xmlns:ali="http://www.niso.org/schemas/ali/1.0/"'
BY = '<permissions><license xlink:href="https://creativecommons.org/licenses/by/4.0/"/></permissions>'


def jats(body: str = "<p>Text.</p>", *, front: str = BY, pmcid: int = 1, more: str = "", attributes: str = "") -> str:
    """One article; ``front`` is put into article-meta, ``more`` behind the body."""
    return (
        f'<article {SPACES} {ALI} article-type="research-article" xml:lang="en" {attributes}><front><article-meta>'
        f'<article-id pub-id-type="pmc">{pmcid}</article-id><title-group><article-title>A title</article-title>'
        f"</title-group>{front}</article-meta></front><body>{body}</body>{more}</article>"
    )


def long(pmcid: int, mark: str = "", **more: Any) -> str:
    """An article that no rule of quality drops, unlike any other."""
    letters = str.maketrans("0123456789", "abcdefghij")
    text = " ".join(f"{mark}word{f'{pmcid}x{number}'.translate(letters)}" for number in range(150))
    return jats(f"<p>{text}</p>", pmcid=pmcid, **more)


def read(xml: str, **settings: Any) -> Article:
    return read_article(parse_article(xml.encode()), ParsePmc(**settings), "here")


def body_text(body: str, **settings: Any) -> str:
    """The text of a body alone."""
    return read(jats(body), **settings).text.removeprefix("A title").strip()


def metadata(pmcid: int, version: int = 1, **keys: Any) -> bytes:
    """The bucket's JSON of an article."""
    return json.dumps({"pmcid": f"PMC{pmcid}", "version": version, "license_code": "CC BY", **keys}).encode()


def tarball(path: Path, members: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> Path:
    """Members are name and data, or a header that is put in as it is; packed unless the name ends in .tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    data = packed.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if path.suffix == ".tar" else gzip.compress(data, mtime=0))
    return path
