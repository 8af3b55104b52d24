"""Which input files there are, and in which order they follow each other: PubMed's, and those of full text.

Both are a file, a folder or a glob, on a local disk or in a bucket; in globs ``*`` stays within a folder, ``**`` goes
across folders. PubMed's files are one source each. Full text comes as large containers, one source each, and as loose
files and small packages of one article, which are bundled: a million articles are a thousand tasks and not a million.
"""

import glob
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from base import storage
from base.errors import UserError
from data_prep.parse.article import spelled

NUMBERED = re.compile(r"(\d\d)n(\d{4,5})\.xml(\.gz)?$")
MAGIC = re.compile(r"[*?\[]")

ARTICLES = re.compile(r"\.(?:n?xml(?:\.gz)?|tar|tar\.gz|tgz)$|(?:^|/)PMC\d+\.\d+\.json$")
TARBALL = re.compile(r"\.(?:tar|tar\.gz|tgz)$")
PACKAGE = re.compile(r"(?:^|/)PMC\d+(?:\.\d+)?\.(?:tar|tar\.gz|tgz)$")  # of one article: oa_package/ab/cd/PMC1.tar.gz
HASHED = re.compile(r"(?:^|/)[0-9a-f]{2}/[0-9a-f]{2}$")  # the folders of packages, 65,536 with some dozens each
EUROPE_PMC = re.compile(r"(?:^|/)PMC\d+_PMC\d+\.xml(?:\.gz)?$")
CONTAINER = re.compile(r"(?:^|/)pmc-\d{5,}\.tar\.gz$")  # of articles with their metadata, as the download packs them
DATED = re.compile(r"(\d{4}-\d{2}-\d{2})(?=\D|$)")
METADATA = re.compile(r"(^|/)metadata/(PMC\d+\.\d+)\.json$")  # the bucket has each once more, apart from its article
OWN_FOLDER = re.compile(r"(?:^|/)PMC\d+(?:\.\d+)?$")  # of one article, as the bucket and the old packages have it
SUFFIX = re.compile(r"\.(?:n?xml(?:\.gz)?|json)$")
BUNDLE = 1000  # articles of a bundle of loose files, at most
BUNDLE_BYTES = 256 << 20  # likewise: a package brings its images, and from a bucket a whole bundle is fetched at once
LARGE = 8 << 20  # bytes from which on a loose file is a source of its own: it may hold thousands of articles


@dataclass(frozen=True)
class Source:
    """An input file, or a bundle of loose ones.

    Attributes:
        name: its path below the given folder; what the ledger calls it. That of a bundle is its folder and ends in
            ``/``, or in ``/#0002`` where a folder holds more than one bundle.
        location: of a bundle, the folder.
        identity: changes when the file does (size and time, or ETag), or what belongs to it beside it (``.md5``,
            file list).
        size: bytes, of a bundle those of all its files.
        members: name and location of each file of a bundle; empty for a single file.
        lists: locations of the file lists beside it, which tell licences; the nearest first.
    """

    name: str
    location: str
    identity: str
    size: int
    members: tuple[tuple[str, str], ...] = ()
    lists: tuple[str, ...] = ()


def find_sources(pubmed: str) -> list[Source]:
    """The PubMed files of a place (file, folder or glob; local or s3://) in the order in which they replace each other.

    NLM numbers its files on from baseline to updates (``pubmed26n1335``, ``medline16n0902``): by year, then number.
    Files that carry no such number come before all that do, by name.

    Raises:
        UserError: nothing is there.
    """
    found = _found(f"pubmed={pubmed}", pubmed, is_pubmed, ".xml or .xml.gz file")
    return sorted(found, key=lambda source: (*_number(source.name), source.name))


def find_article_sources(pmc: str) -> list[Source]:
    """The full text of a place (file, folder or glob; local or s3://) in the order in which it replaces each other.

    Tarballs of many articles, Europe PMC's files and whatever is large are one source each; other XML files and the
    packages of single articles are bundled by folder (an article's own folder, and the inner one of the two that
    packages are strewn over, count as part of the one above). Sources with a date in their name
    come after those without, by date, a baseline before the increments of its day, then by name. Last come those with
    NLM's metadata beside each article (containers, folders of the bucket): NLM has made them since its tarballs ended.

    Raises:
        UserError: nothing is there.
    """
    found = _found(f"pmc={pmc}", pmc, is_article_file, ".xml, .nxml, .xml.gz or .tar.gz file")
    if len(found) == 1 and not MAGIC.search(pmc) and found[0].location == pmc:
        sources = found
    else:
        found = list(_beside_articles(found))
        large = [source for source in found if _stands_alone(source)]
        sources = [*large, *_bundles(source for source in found if not _stands_alone(source))]
    lists: dict[str, str | None] = {}
    return sorted((_with_lists(source, lists) for source in sources), key=_article_order)


def _number(name: str) -> tuple[int, int]:
    match = NUMBERED.search(name)
    return (int(match[1]), int(match[2])) if match else (-1, -1)


def _article_order(source: Source) -> tuple[bool, str, bool, str]:
    date = DATED.search(source.name)
    metadata = CONTAINER.search(source.name) or any(name.endswith(".json") for name, _ in source.members)
    return (bool(metadata), date[1] if date else "", ".incr." in source.name, source.name)


def _stands_alone(source: Source) -> bool:
    if PACKAGE.search(source.name):
        return False
    if TARBALL.search(source.name) or EUROPE_PMC.search(source.name):
        return True
    # In a folder of its own an article is one, however large, and is not parted from its metadata.
    return source.size > LARGE and not OWN_FOLDER.search(source.name.rpartition("/")[0])


def _beside_articles(files: Sequence[Source]) -> Iterator[Source]:
    """In a mirror of the bucket ``metadata/PMC1.1.json`` belongs to ``PMC1.1/PMC1.1.xml``, unless that has its own."""
    names = {file.name for file in files}
    for file in files:
        beside = METADATA.sub(r"\1\2/\2.json", file.name)
        if beside == file.name or f"{beside.removesuffix('json')}xml" not in names:
            yield file
        elif beside not in names:
            yield replace(file, name=beside)


def _bundles(files: Iterable[Source]) -> Iterator[Source]:
    """By folder; an article and its metadata are never parted."""
    for folder, group in groupby(sorted(files, key=_bundle_order), key=lambda file: _folder(file.name)):
        articles = [list(pair) for _, pair in groupby(group, key=lambda file: SUFFIX.sub("", file.name))]
        parts = list(_cut(articles))
        for number, part in enumerate(parts, 1):
            members = [file for pair in part for file in pair]
            name = f"{folder}/#{number:04d}" if len(parts) > 1 else f"{folder}/"
            identity = hashlib.sha256("\n".join(f"{file.name} {file.identity}" for file in members).encode())
            below = members[0].name.removeprefix(f"{folder}/").count("/") + 1  # a location is not spelled as its name
            yield Source(
                name,
                members[0].location.rsplit("/", below)[0] if "/" in members[0].location else "",
                identity.hexdigest(),
                sum(file.size for file in members),
                tuple((file.name, file.location) for file in members),
            )


def _cut(articles: Iterable[list[Source]]) -> Iterator[list[list[Source]]]:
    part: list[list[Source]] = []
    total = 0
    for pair in articles:
        size = sum(file.size for file in pair)
        if part and (len(part) == BUNDLE or total + size > BUNDLE_BYTES):
            yield part
            part, total = [], 0
        part.append(pair)
        total += size
    yield part


def _bundle_order(file: Source) -> tuple[str, str, str]:
    return _folder(file.name), SUFFIX.sub("", file.name), file.name


def _folder(name: str) -> str:
    folder = name.rpartition("/")[0]
    if OWN_FOLDER.search(folder) or (PACKAGE.search(name) and HASHED.search(folder)):
        folder = folder.rpartition("/")[0]
    return folder or "."


def _with_lists(source: Source, known: dict[str, str | None]) -> Source:
    """The source with the file lists that lie beside it or above it, in its place."""
    candidates = []
    if TARBALL.search(source.location):
        candidates.append(f"{TARBALL.sub('', source.location)}.filelist.csv")
    inner = source.name.rpartition("/")[0]
    below = 1 if inner in ("", ".") else inner.count("/") + 2
    folder = source.location if source.members else source.location.rpartition("/")[0] or "."
    for _ in range(below):
        candidates.append(storage.join(folder, "oa_file_list.csv"))
        folder = folder.rpartition("/")[0] or "."
    for candidate in candidates:
        if candidate not in known:
            known[candidate] = _state(candidate)
    lists = tuple(dict.fromkeys(candidate for candidate in candidates if known[candidate] is not None))
    identity = " ".join([source.identity, *(str(known[one]) for one in lists)])
    return replace(source, identity=identity, lists=lists)


def _state(location: str) -> str | None:
    """What changes when a file does; None when there is none."""
    if storage.is_remote(location):
        return storage.versions(location).get("") if storage.exists(location) else None
    path = Path(location)
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}" if path.is_file() else None


def _found(said: str, place: str, wanted: Callable[[str], bool], kinds: str) -> list[Source]:
    """Every wanted file of a place. ``said`` is how the user named it, for the error."""
    if MAGIC.search(place):
        found = _matching(place, wanted)
        if not found:
            raise UserError(f"{said}: no file matches")
        return found
    return _below(said, place, wanted, kinds)


def _matching(pattern: str, wanted: Callable[[str], bool]) -> list[Source]:
    root = pattern[: MAGIC.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
    if storage.is_remote(pattern):
        wild = pattern[len(root) + 1 :].split("/")
        return [source for source in _listed(root) if _fits(source.name.split("/"), wild) and wanted(source.name)]
    paths = {Path(path) for path in glob.glob(pattern, recursive=True)}  # two ** find some twice
    base = Path(root or ("/" if pattern.startswith("/") else "."))
    return [_local(path, str(path.relative_to(base))) for path in paths if path.is_file() and wanted(path.name)]


def _fits(path: Sequence[str], wild: Sequence[str]) -> bool:
    """Whether a path fits a glob, part by part, as :func:`glob.glob` has it: what is hidden is not found by chance."""
    if not path or not wild:
        return not path and all(part == "**" for part in wild)
    if wild[0] == "**":
        return _fits(path, wild[1:]) or (not path[0].startswith(".") and _fits(path[1:], wild))
    found = fnmatchcase(path[0], wild[0]) and (wild[0].startswith(".") or not path[0].startswith("."))
    return found and _fits(path[1:], wild[1:])


def _below(said: str, place: str, wanted: Callable[[str], bool], kinds: str) -> list[Source]:
    if not storage.is_remote(place):
        path = Path(place)
        if path.is_file():
            return [_local(path, path.name)]
        if not path.is_dir():
            raise UserError(f"{said}: no such file or folder")
        files = [file for file in path.rglob("*") if wanted(file.name) and file.is_file()]
        found = [_local(file, str(file.relative_to(path))) for file in files]
    else:
        size = storage.size(place)
        if size is not None:
            return [Source(place.rpartition("/")[2], place, storage.versions(place)[""], size)]
        found = [source for source in _listed(place) if wanted(source.name)]
    if not found:
        raise UserError(f"{said}: holds no {kinds}")
    return found


def _listed(folder: str) -> list[Source]:
    names = storage.list_files(folder)
    versions = storage.versions(folder)
    return [
        Source(name, storage.join(folder, name), f"{versions[name]} {versions.get(f'{name}.md5', '')}", size)
        for name, size in names.items()
    ]


def _local(path: Path, name: str) -> Source:
    side = path.with_name(f"{path.name}.md5")
    states = [file.stat() for file in (path, side) if file.exists()]
    return Source(
        spelled(name), str(path), " ".join(f"{one.st_size}-{one.st_mtime_ns}" for one in states), states[0].st_size
    )


def is_pubmed(name: str) -> bool:
    """Whether a file in a folder is taken for input, by its name."""
    last = name.rpartition("/")[2]
    return last.endswith((".xml", ".xml.gz")) and not last.startswith(".")


def is_article_file(name: str) -> bool:
    """Whether a file in a folder is taken for full text or its metadata, by its name."""
    return ARTICLES.search(name) is not None and not name.rpartition("/")[2].startswith(".")
