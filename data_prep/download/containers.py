"""Articles of the bucket, packed: ``pmc-00042.tar.gz`` has those with PMCIDs from 42 times ``ids_per_container`` on.

Members, in the order of the inventory: ``PMC<id>.<version>.json``, NLM's metadata, and behind it, when the text is
wanted and there, ``PMC<id>.<version>.xml``. An article that could not be had has a JSON with ``error``. The bytes are
decided by the inventory, the settings and what the bucket serves, not by who fetched what first.

``NAME.tar.gz.json`` beside it is written last and says of which inventory and settings the container is. One that was
cut off is made again from its start, at most some minutes' work. One of an older inventory, or of other settings, is
**brought up to date**: what has the same MD5 is taken from it, and only the rest is asked for.
"""

import json
import tarfile
import threading
import zlib
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isal import igzip, isal_zlib

from base import storage
from base.errors import UserError
from base.progress import count, progress, say
from data_prep.download.pmc_bucket import Bucket, Entry, Fetched, Held, fetch_article
from data_prep.download.pmc_inventory import Slice, cut, entries_of, frozen_inventory
from data_prep.executors.executor import Executor
from data_prep.parse.article_files import MEMBER_TOO_LARGE
from data_prep.schema import DownloadPmc, Select
from data_prep.stage import digest

VERSION = 1  # of what a container holds: raise it when that changes
LEVEL = 2  # of igzip: 640 MB/s and 3.9 to 1 on JATS; gzip's own level 6 has 51 MB/s and 4.5 to 1
AHEAD = 4  # articles asked for, for each connection, while the one before them is waited for: what bounds memory
OUTCOMES = ("fetched", "not_wanted", "without_xml", "gone", "too_large", "malformed")
COUNTS = ("articles", *OUTCOMES, "reused", "changed", "requests", "retries", "bytes")


@dataclass(frozen=True)
class Container:
    """One container to fill. ``key`` names its inventory entries and settings."""

    target: Path
    inventory: Path
    start: int
    end: int
    articles: int
    key: str
    settings: DownloadPmc
    select: Select
    connections: int


def fetch_pmc(
    download: Path, folder: Path, settings: DownloadPmc, select: Select, executor: Executor, at_a_time: int
) -> dict[str, Any]:
    """Have all containers of the inventory in ``folder``; ``download`` holds the inventory.

    ``at_a_time`` tasks run at once, which share the connections.

    Returns:
        The summary: ``containers``, ``inventory``, ``inventory_sha256`` and COUNTS. There ``articles`` is the sum of
        the OUTCOMES, ``reused`` says for how many of them nothing was asked, and ``requests``, ``retries`` and
        ``bytes`` are what it took to make the containers as they are.

    Raises:
        UserError: something could not be had. Finished containers stay, and the next run makes the others.
    """
    inventory, origin = frozen_inventory(download, settings)
    containers = _containers(inventory, folder, settings, select, at_a_time)
    _remove_leftovers(folder, containers)
    waiting = [container for container in containers if _outcome(container) is None]
    if len(waiting) < len(containers):
        say(f"download: {len(containers) - len(waiting)} of {len(containers)} PMC containers are there already")
    fetched = 0
    with progress("download PMC", sum(container.articles for container in waiting), "articles") as advance:
        for index, counts in executor.map(fill, waiting, at_most=min(at_a_time, settings.connections)):
            fetched += counts["bytes"]
            advance(waiting[index].articles)
    total: Counter[str] = Counter()
    for container in containers:
        total.update(_outcome(container) or {})
    say(
        f"download: {total['articles']} PMC articles, {total['fetched']} with text, {total['not_wanted']} not wanted, "
        f"{total['gone']} gone; {count(fetched)}B came now"
    )
    for name in ("changed", "gone", "too_large", "malformed", "without_xml"):
        if total[name]:
            say(f"download: {total[name]} PMC article(s) {EXPLAINED[name]}")
    return {
        "containers": len(containers), "inventory": origin["source"], "inventory_sha256": origin["sha256"],
        **{name: total[name] for name in COUNTS},
    }  # fmt: skip


EXPLAINED = {
    "changed": "(their metadata or text) are newer in the bucket than in the inventory; taken as they are now",
    "gone": "are listed in the inventory but no longer in the bucket",
    "too_large": f"are {MEMBER_TOO_LARGE}; left out",
    "malformed": "have metadata that cannot be read; left out",
    "without_xml": "are wanted, but their metadata name no XML",
}


def fill(container: Container) -> dict[str, int]:
    """Fill one container, and say in the note beside it that it is done."""
    _note(container).unlink(missing_ok=True)
    bucket = Bucket(container.settings, container.connections)
    counts = Counter(dict.fromkeys(COUNTS, 0))
    with storage.write_aside(container.target) as aside, _writing(aside) as add, _holding(container.target) as held:

        def fetch(entry: Entry, had: Held | None) -> tuple[Entry, Fetched]:
            return entry, fetch_article(bucket, entry, container.select, had)

        entries = entries_of(container.inventory, container.start, container.end)
        work = ((entry, held(entry)) for entry in entries)
        for entry, article in _in_order(fetch, work, container.connections, bucket.stop):
            add(f"{entry.name}.json", article.metadata)
            if article.xml is not None:
                add(f"{entry.name}.xml", article.xml)
            counts.update({"articles": 1, article.outcome: 1, "reused": article.reused})
    counts.update(bucket.counts)
    summary = dict(counts)
    note = {"key": container.key, "size": container.target.stat().st_size, **summary}
    storage.write_bytes(str(_note(container)), json.dumps(note).encode())
    return summary


def _in_order(
    function: Callable[[Entry, Held | None], tuple[Entry, Fetched]],
    work: Iterable[tuple[Entry, Held | None]],
    connections: int,
    stop: threading.Event,
) -> Iterator[tuple[Entry, Fetched]]:
    """Results in the order of the work, some at a time; the first failure ends the others and is raised."""
    running: deque[Future[tuple[Entry, Fetched]]] = deque()
    pool = ThreadPoolExecutor(connections)
    try:
        for entry, held in work:
            running.append(pool.submit(function, entry, held))
            if len(running) >= AHEAD * connections:
                yield _result(running)
        while running:
            yield _result(running)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _result(running: deque[Future[tuple[Entry, Fetched]]]) -> tuple[Entry, Fetched]:
    """The oldest one's, unless another has failed meanwhile: that would only be met much later."""
    while not running[0].done():
        for future in running:
            if future.done() and not future.cancelled() and future.exception() is not None:
                return future.result()
        try:
            running[0].exception(timeout=1)
        except TimeoutError:
            continue
    return running.popleft().result()


@contextmanager
def _writing(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    """A gzipped tar file whose bytes depend on its members alone."""
    with open(path, "wb") as raw:
        packed = igzip.IGzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=raw, mtime=0)

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.write(member.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE))

        yield add
        packed.write(bytes(2 * tarfile.BLOCKSIZE))
        packed.close()


@contextmanager
def _holding(path: Path) -> Iterator[Callable[[Entry], Held | None]]:
    """What an earlier container has of an entry; asked in the order of the inventory, which is the container's."""
    members = _members(path)
    ahead: list[tuple[tuple[int, int], Held]] = []

    def held(entry: Entry) -> Held | None:
        wanted = (entry.pmcid, entry.version)
        while True:
            if not ahead:
                following = next(members, None)
                if following is None:
                    return None
                ahead.append(following)
            if ahead[0][0] > wanted:
                return None
            here, content = ahead.pop()
            if here == wanted:
                return content

    try:
        yield held
    finally:
        members.close()


def _members(path: Path) -> Generator[tuple[tuple[int, int], Held], None, None]:
    if not path.exists():
        return
    try:
        with igzip.open(path, "rb") as packed, tarfile.open(fileobj=packed, mode="r|") as tar:
            name, metadata, xml = "", b"", None
            for member in tar:
                tar.members = []  # type: ignore[attr-defined] # it would remember them all
                stem, _, kind = member.name.rpartition(".")
                file = tar.extractfile(member)
                data = file.read() if file is not None else b""
                if kind == "xml" and stem == name:
                    xml = data
                    continue
                if name:
                    yield _place(name), Held(metadata, xml)
                name, metadata, xml = stem, data, None
            if name:
                yield _place(name), Held(metadata, xml)
    except (OSError, EOFError, tarfile.TarError, zlib.error, isal_zlib.error, ValueError) as error:  # type: ignore[misc]
        say(f"{path}: is damaged ({error}); the articles behind that place are fetched again")


def _place(name: str) -> tuple[int, int]:
    pmcid, _, version = name.removeprefix("PMC").partition(".")
    return int(pmcid), int(version)


def _containers(inventory: Path, folder: Path, settings: DownloadPmc, select: Select, workers: int) -> list[Container]:
    slices = cut(inventory, settings.ids_per_container, settings.articles)
    connections = max(1, settings.connections // max(1, min(workers, len(slices))))

    def container(one: Slice) -> Container:
        key = digest([VERSION, one.sha256, select.license, select.manuscripts])
        return Container(
            folder / f"pmc-{one.number:05d}.tar.gz", inventory, one.start, one.end, one.entries, key, settings, select,
            connections,
        )  # fmt: skip

    return [container(one) for one in slices]


def _note(container: Container) -> Path:
    return container.target.with_name(f"{container.target.name}.json")


def _outcome(container: Container) -> dict[str, int] | None:
    """The counts of a container that is done."""
    try:
        note = json.loads(_note(container).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if note.pop("key") != container.key or note.pop("size") != storage.size(str(container.target)):
        return None
    return note


def _remove_leftovers(folder: Path, containers: list[Container]) -> None:
    """What a killed run left aside goes. Containers of another population stay, and must be seen to by the user."""
    known = {path for container in containers for path in (container.target, _note(container))}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and path.name.endswith(".part"):
            path.unlink()
        elif path not in known:
            raise UserError(
                f"{path}: is not of the articles that are asked for now; "
                "move or delete such files, or give another work=FOLDER"
            )
