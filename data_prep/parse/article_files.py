"""Files of full text → their articles, in order: single files, files of many, tarballs, bundles of loose files.

What a bad part costs, by where it stands:

- **In a tarball or a bundle each member stands alone.** One that is not well-formed, not JATS, in the wrong encoding,
  damaged as gzip, too large, a link, or named so that it would leave its folder becomes an ``Article`` of that
  kind, and reading goes on. Nothing is ever unpacked to disk. Only what
  is called ``.xml``, ``.nxml`` (also ``.gz``) or ``PMC123.1.json`` is a record; images and texts are passed over and
  counted.
- **An article may take 250 MB of memory, and a member or loose file have 16 MB**, for it may hold many. What is larger
  is ``too_large``, in a file of many articles too, and is not held in memory; the others beside it are read.
- **A gzip or tar stream that is damaged or cut off refuses its file whole**, for what is missing cannot be counted.
  So does a file of many articles that is not well-formed, one that is neither a tarball nor JATS, and a tarball without
  a single record (of texts or images alone). (Within a bundle
  such a file, or such a package of one article, is one bad member.)
- **Metadata** (``PMC123.1.json``) belongs to the member of the same name beside it. Without XML the article is
  ``not_fetched``, or ``gone`` when the downloader found it gone. Metadata that cannot be read makes the article
  ``malformed``: a licence or a retraction may stand in it.
"""

import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import IO, cast

from isal import igzip, isal_zlib
from lxml import etree
from lxml.etree import _Element

from data_prep.parse.article import Article, spelled
from data_prep.parse.article_metadata import FileList, apply_json, apply_name, file_list
from data_prep.parse.article_xml import (
    HEAD,
    MEMBER_LIMIT,
    SETS,
    TOO_LARGE,
    NotRead,
    Readable,
    parse_article,
    parse_set,
    root_of,
)  # fmt: skip
from data_prep.parse.jats import read_article
from data_prep.parse.refusal import Refused, Unreadable
from data_prep.parse.sources import TARBALL
from data_prep.schema import ParsePmc

RECORD = re.compile(r"\.n?xml(?:\.gz)?$|(?:^|/)PMC\d+\.\d+\.json$", re.I)
SUFFIX = re.compile(r"\.(?:n?xml(?:\.gz)?|json)$", re.I)
GZIP = b"\x1f\x8b"
MEMBER_TOO_LARGE = f"larger than {MEMBER_LIMIT >> 20} MB, the limit for one file of a tarball or folder"


@dataclass(frozen=True, slots=True)
class _Member:
    """One record of a container: its bytes, or why there are none."""

    name: str
    data: bytes = b""
    kind: str | None = None
    detail: str | None = None


def read_articles(
    path: Path,
    settings: ParsePmc,
    name: str,
    lists: Sequence[Path] = (),
    passed_over: Counter[str] | None = None,
) -> Iterator[Article]:
    """Everything in one file: a tarball, a file of many articles, or a single article; each also gzipped.

    Args:
        path: where the file lies on this machine.
        name: what it is called at its source: a PMCID in it counts.
        lists: file lists beside it (``Source.lists``); the first that has an article tells its licence.
        passed_over: counts the members that are no records, by their suffix.

    Raises:
        Refused: with the reason, possibly after articles were yielded; they must not be used then.
    """
    known = [file_list(one) for one in lists]
    with _opened(path) as file:
        head = file.read(HEAD)
        rest = _Rejoined(head, file)
        if head[257:262] == b"ustar" or TARBALL.search(name):
            members = _tar_members(rest, Counter() if passed_over is None else passed_over)
            yield from _paired(members, settings, known)
            return
        try:
            if root_of(head) in SETS:
                yield from _of_set(rest, settings, known)
                return
        except NotRead as reason:
            raise Refused(str(reason)) from None
        data = rest.read(MEMBER_LIMIT + 1)
    yield from _of_members([_Member(name, data)], settings, known)


def read_loose(
    paths: Sequence[tuple[str, Path]],
    settings: ParsePmc,
    lists: Sequence[Path] = (),
    passed_over: Counter[str] | None = None,
) -> Iterator[Article]:
    """The articles of a bundle of loose files and packages, in the order given; metadata stands beside its article.

    Args:
        paths: name and place of each.
        lists, passed_over: as for :func:`read_articles`.

    Raises:
        Refused: a file list beside them is unusable. Never for one of the files.
    """
    known = [file_list(one) for one in lists]
    counter = Counter() if passed_over is None else passed_over
    members = (
        member
        for name, path in paths
        for member in (_packaged(name, path, counter) if TARBALL.search(name) else [_loose(name, path)])
    )
    yield from _paired(members, settings, known)


def _packaged(name: str, path: Path, passed_over: Counter[str]) -> list[_Member]:
    """The article of a small tarball, with its name before the member's: all that it holds or nothing."""
    try:
        with _opened(path) as file:
            members = list(_tar_members(file, passed_over))
    except Refused as reason:
        return [_refused(name, reason)]
    return [replace(member, name=f"{name}/{member.name}") for member in members]


def _loose(name: str, path: Path) -> _Member:
    try:
        with _opened(path) as file:
            data = file.read(MEMBER_LIMIT + 1)
    except Refused as reason:
        return _refused(name, reason)
    too_large = len(data) > MEMBER_LIMIT
    return _Member(name, kind="too_large", detail=MEMBER_TOO_LARGE) if too_large else _Member(name, data)


def _refused(name: str, reason: Refused) -> _Member:
    return _Member(name, kind="unreadable" if isinstance(reason, Unreadable) else "malformed", detail=str(reason))


def _paired(members: Iterable[_Member], settings: ParsePmc, known: Sequence[FileList]) -> Iterator[Article]:
    """Neighbours of one name, but for the suffix, are one article and its metadata."""
    for _, group in groupby(members, key=lambda member: SUFFIX.sub("", member.name)):
        yield from _of_members(list(group), settings, known)


def _of_members(members: Sequence[_Member], settings: ParsePmc, known: Sequence[FileList]) -> Iterator[Article]:
    metadata = next((member for member in members if member.name.lower().endswith(".json")), None)
    texts = [member for member in members if member is not metadata]
    if metadata is not None and not texts:
        yield _with_metadata(Article("not_fetched", metadata.name), metadata, metadata.name, known)
    for member in texts:
        for article in _of_text(member, settings):
            yield _with_metadata(article, metadata, member.name, known)


def _with_metadata(article: Article, metadata: _Member | None, name: str, known: Sequence[FileList]) -> Article:
    """What stands beside the XML, over what stands in it."""
    if "#" not in article.place:
        apply_name(article, name)
    for one in reversed(known):  # the nearest has the last word
        one.apply(article)
    if metadata is None:
        return article
    try:
        if metadata.kind is not None:
            kind = "unreadable" if metadata.kind == "unreadable" else "malformed"
            return Article(kind, article.place, f"its metadata: {metadata.detail}", article.pmcid, article.version)
        apply_json(article, metadata.data)
    except Refused as reason:
        return Article("malformed", article.place, str(reason), article.pmcid, article.version)
    return article


def _of_text(member: _Member, settings: ParsePmc) -> Iterator[Article]:
    """The article of a member; its articles when it is a file of many; one of another kind when it is bad."""
    try:
        if member.kind is not None:
            raise NotRead(member.kind, member.detail or "")
        data = _unpacked(member.data)
        if root_of(data[:HEAD]) in SETS:
            articles = list(_of_set(io.BytesIO(data), settings, (), member.name))  # all of them or none
        else:
            article = read_article(parse_article(data), settings, member.name)
            article.md5 = hashlib.md5(data).hexdigest()
            articles = [article]
    except NotRead as reason:
        articles = [Article(reason.kind, member.name, str(reason))]
    yield from articles


def _of_set(file: Readable, settings: ParsePmc, known: Sequence[FileList], name: str = "") -> Iterator[Article]:
    for number, element in enumerate(parse_set(file), 1):
        if element is None:
            yield Article("too_large", f"{name}#{number}", TOO_LARGE)
            continue
        article = read_article(element, settings, f"{name}#{number}")
        article.md5 = hashlib.md5(_bytes(element)).hexdigest()
        for one in reversed(known):
            one.apply(article)
        yield article


def _bytes(element: _Element) -> bytes:
    return etree.tostring(element, encoding="utf-8", with_tail=False)


def _tar_members(file: Readable, passed_over: Counter[str]) -> Iterator[_Member]:
    """The records of a tarball, whose every byte is read: a damaged end is found as surely as a damaged beginning."""
    found = False
    try:
        with tarfile.open(fileobj=cast(IO[bytes], file), mode="r|", tarinfo=_TarInfo, errorlevel=2) as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header
                name = spelled(info.name)
                if not RECORD.search(name):
                    passed_over[Path(name).suffix.lower() if info.isreg() else "/"] += 1
                    continue
                found = True
                if not info.isreg() or info.issparse():
                    yield _Member(name, kind="unsafe_member", detail="not a plain file but a link or the like")
                elif info.name.startswith("/") or "\\" in info.name or ".." in info.name.split("/"):
                    yield _Member(name, kind="unsafe_member", detail="its name leads out of its folder")
                elif info.size > MEMBER_LIMIT:
                    yield _Member(name, kind="too_large", detail=f"{info.size} bytes, {MEMBER_TOO_LARGE}")
                else:
                    yield _Member(name, archive.extractfile(info).read())  # type: ignore[union-attr]
            # tarfile stops at the end mark; a second archive behind it would be lost, and a bad checksum unseen.
            if any(any(block) for block in iter(lambda: archive.fileobj.read(1 << 16), b"")):  # type: ignore[union-attr]
                raise Refused("holds more behind the end mark of the tar archive: two archives in one file?")
        if not found:
            raise Refused("holds no article: no .xml or .nxml, and no metadata")
    except (tarfile.TarError, EOFError) as error:
        raise Refused(f"the tar archive is damaged or cut off: {error}") from None


class _TarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header in the middle for the end of the archive. We do not."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_TarInfo":
        try:
            return super().fromtarfile(archive)
        except tarfile.HeaderError as error:
            if str(error) == "end of file header":
                raise
            raise Refused(f"the tar archive is damaged or cut off: {error}") from None


class _Rejoined:
    """A stream whose first bytes have been looked at."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self.head = head
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if not self.head:
            return self.file.read(size)
        if size < 0 or size > len(self.head):
            data, self.head = self.head, b""
            return data + self.file.read(size - len(data) if size >= 0 else -1)
        data, self.head = self.head[:size], self.head[size:]
        return data


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """A file, unpacked as it is read. A damaged gzip stream is Refused, whoever is reading."""
    try:
        with open(path, "rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            if packed:
                with igzip.open(raw, "rb") as file:
                    yield file  # type: ignore[misc]
            else:
                yield raw
    except (EOFError, isal_zlib.IsalError) as error:  # type: ignore[misc]
        raise Refused(f"the gzip stream is damaged or cut off: {error}") from None
    except igzip.BadGzipFile as error:
        raise Refused(f"not a sound gzip file: {error}") from None
    except OSError as error:  # what an error of gzip is as well
        raise Unreadable(error) from None


def _unpacked(data: bytes) -> bytes:
    """A member that is gzipped itself."""
    if not data.startswith(GZIP):
        return data
    try:
        with igzip.open(io.BytesIO(data), "rb") as file:
            plain = file.read(MEMBER_LIMIT + 1)
    except (EOFError, OSError, isal_zlib.IsalError) as error:  # type: ignore[misc]
        raise NotRead("malformed", f"the gzip stream is damaged or cut off: {error}") from None
    if len(plain) > MEMBER_LIMIT:
        raise NotRead("too_large", MEMBER_TOO_LARGE)
    return bytes(plain)
