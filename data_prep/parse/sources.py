"""Which PubMed files there are, and in which order they follow each other."""

import glob
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from base import storage
from base.errors import UserError

NUMBERED = re.compile(r"(\d\d)n(\d{4,5})\.xml(\.gz)?$")
MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """An input file.

    Attributes:
        name: its path below the given folder; what the ledger calls it.
        identity: changes when the file does (size and time, or ETag), or the ``.md5`` beside it.
    """

    name: str
    location: str
    identity: str
    size: int


def find_sources(pubmed: str) -> list[Source]:
    """The files of a place (file, folder or glob; local or s3://) in the order in which they replace each other.

    NLM numbers its files on from baseline to updates (``pubmed26n1335``, ``medline16n0902``): by year, then number.
    Files that carry no such number come before all that do, by name.

    Raises:
        UserError: nothing is there.
    """
    if MAGIC.search(pubmed):
        found = _matching(pubmed)
        if not found:
            raise UserError(f"pubmed={pubmed}: no file matches")
    else:
        found = _below(pubmed)
    return sorted(found, key=lambda source: (*_number(source.name), source.name))


def _number(name: str) -> tuple[int, int]:
    match = NUMBERED.search(name)
    return (int(match[1]), int(match[2])) if match else (-1, -1)


def _matching(pattern: str) -> list[Source]:
    root = pattern[: MAGIC.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
    if storage.is_remote(pattern):
        rest = pattern[len(root) + 1 :]
        return [source for source in _listed(root) if fnmatch(source.name, rest)]
    paths = [Path(path) for path in glob.glob(pattern, recursive=True)]
    base = Path(root or ("/" if pattern.startswith("/") else "."))
    return [_local(path, str(path.relative_to(base))) for path in paths if path.is_file() and is_pubmed(path.name)]


def _below(place: str) -> list[Source]:
    if not storage.is_remote(place):
        path = Path(place)
        if path.is_file():
            return [_local(path, path.name)]
        if not path.is_dir():
            raise UserError(f"pubmed={place}: no such file or folder")
        found = [_local(file, str(file.relative_to(path))) for file in path.rglob("*") if is_pubmed(file.name)]
    else:
        size = storage.size(place)
        if size is not None:
            return [Source(place.rpartition("/")[2], place, storage.versions(place)[""], size)]
        found = [source for source in _listed(place) if is_pubmed(source.name)]
    if not found:
        raise UserError(f"pubmed={place}: holds no .xml or .xml.gz file")
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
    return Source(name, str(path), " ".join(f"{one.st_size}-{one.st_mtime_ns}" for one in states), states[0].st_size)


def is_pubmed(name: str) -> bool:
    """Whether a file in a folder is taken for input, by its name."""
    last = name.rpartition("/")[2]
    return last.endswith((".xml", ".xml.gz")) and not last.startswith(".")
