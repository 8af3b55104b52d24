"""``pubmed=ncbi``: the files of NLM's baseline and updates, listed once and then fetched.

The listing is frozen in ``work/download/pubmed-listing.json`` on the first run: each file with its MD5. So every later
run, here or elsewhere with that file copied into its work folder, means the same files, byte for byte, and its hash
names them. **To look for new update files, delete the listing**; it is made anew as well when ``download.pubmed.urls``
or ``newest`` change. What is there already and is listed again with the same MD5 is not fetched again.

Files lie by the folder that they come from, ``work/download/pubmed/updatefiles/pubmed26n1335.xml.gz``, each ``.md5``
beside its file. ``work/download/pubmed-checked.jsonl`` notes what was checked against its MD5, so that a run over
files that are all there reads none of them.
"""

import json
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from base import storage
from base.errors import NotThere, UserError
from base.progress import progress, say
from data_prep.download.mirror import LINK, Mirror
from data_prep.schema import DownloadPubmed

T = TypeVar("T")
R = TypeVar("R")
LISTING = "pubmed-listing.json"
CHECKED = "pubmed-checked.jsonl"


@dataclass(frozen=True)
class Listed:
    """A file of the listing: ``path`` is below ``work/download/pubmed``, ``size`` in bytes where the server tells."""

    path: str
    url: str
    md5: str
    size: int | None


def fetch_pubmed(download: Path, folder: Path, settings: DownloadPubmed) -> dict[str, Any]:
    """Have every listed file in ``folder``, whole and checked; ``download`` holds the listing and the notes.

    Returns:
        The summary: ``files``, ``bytes``, ``listing_sha256``.

    Raises:
        UserError: a file could not be had. What was fetched stays, and the next run goes on from there.
    """
    listing = download / LISTING
    files = _frozen(listing, settings)
    _refuse_others(folder, {file.path for file in files})
    checked = _Checked(download / CHECKED)
    waiting = [file for file in files if not checked.knows(folder / file.path, file)]
    if len(waiting) < len(files):
        say(f"download: {len(files) - len(waiting)} of {len(files)} PubMed files are there already")
    mirror = Mirror(settings)
    _require_room(folder, waiting)
    sizes = [file.size or 0 for file in waiting]
    gone: list[str] = []
    with progress(f"download {len(waiting)} PubMed files", sum(sizes) if all(sizes) else None, "bytes") as advance:

        def fetch(file: Listed) -> Listed | None:
            place = folder / file.path
            # As NLM writes it; before the file, so that none ever lies there that parse could not check.
            storage.write_bytes(f"{place}.md5", f"MD5({place.name})= {file.md5}\n".encode())
            try:
                mirror.fetch(file.url, place, file.md5, advance)
            except NotThere as error:
                gone.append(str(error))
                return None
            return file

        for file in _several(mirror, fetch, waiting):
            if file is not None:
                checked.note(folder / file.path, file)
    if gone:
        raise UserError(
            f"{len(gone)} of {len(files)} listed PubMed files are no longer on the server; all others are here:\n"
            + "\n".join(f"  {line}" for line in sorted(gone))
            + f"\ndelete {listing} to have what is there now listed, and run the same command again"
        )
    total = sum((folder / file.path).stat().st_size for file in files)
    return {"files": len(files), "bytes": total, "listing_sha256": storage.sha256(listing)}


def folder_name(url: str) -> str:
    """``https://…/pubmed/updatefiles/`` → ``updatefiles``, the folder on disk."""
    return urllib.parse.urlsplit(url).path.rstrip("/").rpartition("/")[2]


def _frozen(listing: Path, settings: DownloadPubmed) -> list[Listed]:
    asked = {"urls": settings.urls, "newest": settings.newest}
    if listing.exists():
        try:
            known = json.loads(listing.read_text(encoding="utf-8"))
            if known["asked"] == asked:
                return [Listed(**file) for file in known["files"]]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{listing}: is no listing of PubMed files; delete it to have one made") from None
    files = _list(settings)
    content = {"asked": asked, "files": [asdict(file) for file in files]}
    storage.write_bytes(str(listing), json.dumps(content, indent=1).encode())
    return files


def _list(settings: DownloadPubmed) -> list[Listed]:
    """Ask for the folders' pages, then for each file's MD5 and size."""
    mirror = Mirror(settings)
    found = [(url.rstrip("/") + "/" + name, name) for url in settings.urls for name in mirror.listed(url)]
    found.sort(key=lambda one: _number(one[1]))
    if settings.newest is not None:
        if len(found) < settings.newest:
            places = " ".join(settings.urls)
            raise UserError(f"download.pubmed.newest={settings.newest}: there are only {len(found)} files in {places}")
        found = found[-settings.newest :]

    def look(one: tuple[str, str]) -> Listed:
        url, name = one
        return Listed(f"{folder_name(url.rpartition('/')[0])}/{name}", url, mirror.checksum(url), mirror.size(url))

    with progress("list PubMed files", len(found), "files") as advance:
        files = []
        for file in _several(mirror, look, found):
            files.append(file)
            advance(1)
    return sorted(files, key=lambda file: (_number(file.path), file.path))


def _number(name: str) -> tuple[int, int]:
    """NLM numbers its files on from baseline to updates: by year, then number."""
    match = LINK.search(f'href="{name}"')
    assert match is not None, name
    return int(match[2]), int(match[3])


def _several(mirror: Mirror, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Results as they end, some at a time. The first failure ends the others and is raised."""
    with ThreadPoolExecutor(mirror.settings.connections) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            mirror.stop.set()
            for future in futures:
                future.cancel()
            raise


class _Checked:
    """A note of every file that was whole: it is not read again while its size and time are the same."""

    def __init__(self, journal: Path):
        self.journal = journal
        self.known: set[tuple[str, str, int, int]] = set()
        for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else ():
            with suppress(ValueError):  # a line that a killed run cut off
                self.known.add(tuple(json.loads(line)))

    def knows(self, place: Path, file: Listed) -> bool:
        try:
            return self._line(place, file) in self.known
        except FileNotFoundError:
            return False

    def note(self, place: Path, file: Listed) -> None:
        with open(self.journal, "a", encoding="utf-8") as journal:
            journal.write(json.dumps(self._line(place, file)) + "\n")

    def _line(self, place: Path, file: Listed) -> tuple[str, str, int, int]:
        state = place.stat()
        return (file.path, file.md5, state.st_size, state.st_mtime_ns)


def _refuse_others(folder: Path, wanted: set[str]) -> None:
    """Files of another listing would be parsed too, and deleting what took hours to fetch is the user's business."""
    others = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and name.removesuffix(".md5") not in wanted and not path.name.startswith("."):
            others.append(name)
    packed = [name for name in others if not name.endswith(".md5")]
    if packed:
        raise UserError(
            f"{folder}: holds {len(packed)} file(s) that are not listed now, as {packed[0]}; "
            "move or delete them, or give another work=FOLDER"
        )
    for name in others:  # checksums alone
        (folder / name).unlink()


def _require_room(folder: Path, files: list[Listed]) -> None:
    need = sum(file.size or 0 for file in files if not (folder / file.path).exists())
    free = storage.free_bytes(folder)
    if need > free:
        raise UserError(f"{folder}: {need / 1e9:.1f} GB are to be fetched, but only {free / 1e9:.1f} GB are free there")
