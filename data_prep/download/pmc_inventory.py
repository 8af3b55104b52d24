"""Which articles there are: one S3 inventory of the bucket's ``metadata/``, frozen, and cut into containers.

``work/download/pmc-inventory.csv`` has the columns ``key`` and ``etag``, sorted by PMCID and version: the population.
It is made on the first run and used by all later ones; its SHA-256 names it, ``pmc-inventory.json`` beside it tells
where it is from. **To take in newer articles, delete it**, or set ``download.pmc.inventory`` to another date.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from base import storage
from base.errors import UserError
from base.progress import progress, say
from data_prep.download.pmc_bucket import Bucket, Entry, Unavailable
from data_prep.schema import DownloadPmc

INVENTORY = "pmc-inventory.csv"
ORIGIN = "pmc-inventory.json"
REPORTS = "inventory-reports/pmc-oa-opendata/metadata/"
DATE = re.compile(r"\d{4}-\d\d-\d\d")
KEY = r"^metadata/PMC(?P<pmcid>\d{1,9})\.(?P<version>\d{1,4})\.json$"
PREFIX = len(b"metadata/PMC")
ROWS = 200_000  # written at a time
SCHEMA = pa.schema([("pmcid", pa.int32()), ("version", pa.int32()), ("etag", pa.string())])


@dataclass(frozen=True)
class Slice:
    """The entries of one container: these bytes of the inventory."""

    number: int
    start: int
    end: int
    entries: int
    sha256: str


def frozen_inventory(download: Path, settings: DownloadPmc) -> tuple[Path, dict[str, Any]]:
    """The inventory in the work folder, made when there is none for these settings; and what is noted of it.

    Raises:
        UserError: there is none to be had, or the frozen one has been changed.
    """
    path, origin = download / INVENTORY, download / ORIGIN
    asked = {"bucket": settings.bucket, "inventory": settings.inventory}
    try:
        noted = json.loads(origin.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        noted = {}
    if path.exists() and noted.get("asked") == asked:
        if storage.sha256(path) != noted["sha256"]:
            raise UserError(f"{path}: is not what it was when it was frozen; delete it to have it made anew")
        return path, noted
    origin.unlink(missing_ok=True)
    source, table = _read(settings)
    entries = _write(table, path)
    noted = {"asked": asked, "source": source, "entries": entries, "sha256": storage.sha256(path)}
    storage.write_bytes(str(origin), json.dumps(noted, indent=1).encode())
    say(f"download: {entries} article versions in {source}")
    return path, noted


def cut(inventory: Path, ids: int, articles: int | None) -> list[Slice]:
    """Containers by PMCID: number n has those from n times ``ids`` on. So a container stays what it is as PMC grows.

    Args:
        articles: stop after so many entries; None for all.
    """
    slices: list[Slice] = []
    number, start, position, entries, digest = -1, 0, 0, 0, hashlib.sha256()
    with open(inventory, "rb") as file:
        position = start = len(file.readline())
        for count, line in enumerate(file):
            if count == articles:
                break
            this = int(line[PREFIX : line.index(b".", PREFIX)]) // ids
            if this != number:
                if entries:
                    slices.append(Slice(number, start, position, entries, digest.hexdigest()))
                number, start, entries, digest = this, position, 0, hashlib.sha256()
            digest.update(line)
            entries += 1
            position += len(line)
    if entries:
        slices.append(Slice(number, start, position, entries, digest.hexdigest()))
    return slices


def entries_of(inventory: Path, start: int, end: int) -> Iterator[Entry]:
    """The entries of a slice, in order."""
    with open(inventory, "rb") as file:
        file.seek(start)
        for line in file.read(end - start).decode().splitlines():
            key, _, etag = line.partition(",")
            _, pmcid, version, _ = re.split(r"PMC|\.", key)
            yield Entry(int(pmcid), int(version), etag)


def _read(settings: DownloadPmc) -> tuple[str, pa.Table]:
    """Where an inventory lies, and its entries, unsorted."""
    place = settings.inventory
    if place != "newest" and not DATE.fullmatch(place):
        data = storage.read_bytes(place)
        if not place.endswith(".json"):
            return place, _table(data, [], place)
        # What others have kept of an inventory is a folder: the manifest and the files that it names.
        folder = place.rpartition("/")[0] or "."
        return place, _parts(place, data, lambda part: storage.read_bytes(storage.join(folder, _last(part["key"]))))
    bucket = Bucket(settings, connections=1)
    for date in sorted(bucket.folders(REPORTS), reverse=True):
        if not DATE.match(date) or place not in ("newest", date[:10]):
            continue
        manifest = f"{REPORTS}{date}/manifest.json"
        try:
            data = bucket.get(manifest, None)
        except Unavailable:
            say(f"download: the inventory of {date} has no manifest yet; looking for an older one")
            continue

        def fetch(part: dict[str, Any], manifest: str = manifest) -> bytes:
            try:
                return bucket.get(part["key"], part.get("MD5checksum"))
            except Unavailable:
                raise UserError(f"{settings.bucket}/{manifest}: names {part['key']}, which is not there") from None

        return f"{settings.bucket}/{manifest}", _parts(manifest, data, fetch)
    raise UserError(
        f"download.pmc.inventory={place}: there is none below {settings.bucket}/{REPORTS}; NLM keeps them for "
        "30 days. Give another date, or the path of a manifest or a frozen inventory"
    )


def _parts(place: str, manifest: bytes, fetch: Any) -> pa.Table:
    """Everything that a manifest names. See the S3 user guide on inventory manifests."""
    try:
        content = json.loads(manifest)
        columns = [name.strip() for name in content["fileSchema"].split(",")]
        parts = [{"size": 0, **part, "key": part["key"]} for part in content["files"]]
        packed = content["fileFormat"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{place}: is no manifest of an S3 inventory") from None
    if packed != "CSV" or not {"Key", "ETag"} <= set(columns):
        raise UserError(f"{place}: an inventory as CSV with Key and ETag is needed, but this is {packed}: {columns}")
    tables = []
    with progress("download the inventory", sum(part["size"] for part in parts) or None, "bytes") as advance:
        for part in parts:
            data = fetch(part)
            if part.get("MD5checksum") not in (None, hashlib.md5(data).hexdigest()):
                raise UserError(f"{place}: {part['key']} does not fit its MD5checksum")
            tables.append(_table(data, columns, part["key"]))
            advance(len(data))
    return pa.concat_tables(tables)


def _table(data: bytes, columns: list[str], place: str) -> pa.Table:
    """Rows that are an article's metadata: pmcid, version, etag. No ``columns``: the file has a header."""
    source: Any = pa.BufferReader(data)
    if data[:2] == b"\x1f\x8b":
        source = pa.CompressedInputStream(source, "gzip")
    text = {name: pa.string() for name in (*columns, "key", "etag")}
    try:
        with pa_csv.open_csv(  # in blocks: the whole text at once would take gigabytes
            source,
            read_options=pa_csv.ReadOptions(column_names=columns or None),
            convert_options=pa_csv.ConvertOptions(column_types=text),
        ) as blocks:
            return pa.Table.from_batches([_articles(block) for block in blocks], schema=SCHEMA)
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise UserError(f"{place}: cannot be read as a CSV file of keys and ETags: {error}") from None


def _articles(block: pa.RecordBatch) -> pa.RecordBatch:
    given = {name.lower(): block.column(index) for index, name in enumerate(block.schema.names)}
    found = pc.extract_regex(given["key"], KEY)
    mask = pc.is_valid(found)
    if "islatest" in given:  # a bucket that keeps old versions lists them too
        mask = pc.and_(mask, pc.equal(given["islatest"], "true"))
    if "isdeletemarker" in given:
        mask = pc.and_(mask, pc.equal(given["isdeletemarker"], "false"))
    number = [pc.cast(pc.struct_field(found, name), pa.int32()) for name in ("pmcid", "version")]
    etag = pc.utf8_trim(given["etag"], '"')
    return pa.RecordBatch.from_arrays([*number, etag], schema=SCHEMA).filter(mask)


def _write(table: pa.Table, path: Path) -> int:
    """Sort and write; a key that is listed twice counts once. Returns the number of entries."""
    if table.num_rows == 0:
        raise UserError("the inventory lists no metadata/PMC<id>.<version>.json")
    table = table.combine_chunks()
    order = pc.sort_indices(table, [(name, "ascending") for name in SCHEMA.names])
    again = np.zeros(table.num_rows, dtype=bool)
    again[1:] = True
    for name in ("pmcid", "version"):
        column = table[name].take(order).to_numpy()
        again[1:] &= column[1:] == column[:-1]
    order = order.filter(pa.array(~again))
    with storage.write_aside(path) as aside, open(aside, "wb") as file:
        file.write(b"key,etag\n")
        for first in range(0, len(order), ROWS):
            rows = zip(*table.take(order.slice(first, ROWS)).to_pydict().values(), strict=True)
            file.write(
                "".join(f"metadata/PMC{pmcid}.{version}.json,{etag}\n" for pmcid, version, etag in rows).encode()
            )
    return len(order)


def _last(key: str) -> str:
    return key.rpartition("/")[2]
