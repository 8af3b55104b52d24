"""Files that may lie on a local disk or in an S3 bucket, behind one set of functions.

A *location* is a local path or ``s3://bucket/key``. The endpoint comes from ``S3_ENDPOINT_URL`` and the credentials
from boto3's own chain, exactly as Composer and Streaming take them. Whatever is written appears whole or not at all.
A store that fails is insisted on (``object_store.py``). Bytes that were altered on their way are noticed and sent or
fetched again: up by the checksum that boto3 sends along, down by the checksum and the ETag that the store tells.

All functions raise UserError: StoreTrouble when the store fails for now, NotThere when something is not there.
"""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from base.errors import NotThere, UserError
from base.object_store import ABSENT, insist, require_same
from base.object_store import client as _client  # noqa: F401

UMASK = os.umask(0o022)  # it can only be read by setting it, and that is no business of a thread
os.umask(UMASK)
ONLY_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def is_remote(location: str) -> bool:
    """Whether the location lies in a bucket. Raises UserError for a scheme that is not supported."""
    if "://" in location and not location.startswith("s3://"):
        raise UserError(f"{location}: only local paths and s3:// locations are supported")
    return location.startswith("s3://")


def join(location: str, *parts: str) -> str:
    """Append path parts to a location."""
    return (
        "/".join([location.rstrip("/") or "/", *(part.strip("/") for part in parts)])
        .replace("//", "/")
        .replace("s3:/", "s3://", 1)
    )


def exists(location: str) -> bool:
    """Whether a file (not a folder) is there."""
    return size(location) is not None


def size(location: str) -> int | None:
    """Bytes of the file, or None when there is none."""
    if not is_remote(location):
        return os.path.getsize(location) if os.path.isfile(location) else None
    from botocore.exceptions import ClientError

    place = _bucket_and_key(location)

    def look(store: Any) -> int | None:
        try:
            return store.head_object(**place)["ContentLength"]
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:  # of a HEAD, which cannot tell which of them
                return None
            raise

    return insist(location, look)


def read_bytes(location: str, limit: int | None = None) -> bytes:
    """The whole file, or its first ``limit`` bytes, of which no store tells a checksum."""
    if not is_remote(location):
        try:
            with open(location, "rb") as file:
                return file.read(limit)
        except FileNotFoundError:
            raise NotThere(f"{location}: no such file") from None
    place, seen = _bucket_and_key(location), set[str]()

    def read(store: Any) -> bytes:
        if limit is not None:
            return store.get_object(**place, Range=f"bytes=0-{limit - 1}")["Body"].read()
        answer = store.get_object(**place)
        data = answer["Body"].read()
        require_same(store, place, answer, BytesIO(data), seen)
        return data

    return insist(location, read)


def write_bytes(location: str, data: bytes) -> None:
    """Write the whole file at once; a reader sees the old file or the new one."""
    if is_remote(location):
        place = _bucket_and_key(location)
        insist(location, lambda store: store.put_object(**place, Body=data))
        return
    with write_aside(location) as aside:
        aside.write_bytes(data)


@contextmanager
def write_aside(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced to disk and moved into place.

    Raises:
        UserError: it cannot be written. Other errors of the block, of files that it reads above all, stay as they are.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise disk_error(path, error) from error
    os.close(descriptor)
    aside = Path(name)
    try:
        try:
            yield aside
        except OSError as error:
            # numpy raises one without a number when the disk takes only a part of an array.
            if error.errno in ONLY_OF_WRITING or (error.errno is None and "written" in str(error)):
                raise disk_error(path, error) from error
            raise
        _move_into_place(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _move_into_place(aside: Path, path: Path) -> None:
    try:
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~UMASK)
        os.replace(aside, path)
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: str | Path, error: OSError) -> UserError:
    """What to tell the user when a local file cannot be written."""
    reason = error.strerror or str(error)
    return UserError(f"{path}: cannot be written: {reason} ({free_bytes(path) / 1e9:.2f} GB free there)")


def free_bytes(path: str | Path) -> int:
    """Room on the disk of a local path, which need not be there yet."""
    return shutil.disk_usage(nearest_existing(path)).free


def upload(path: str | Path, location: str) -> None:
    """Copy a local file to a location."""
    if is_remote(location):
        place = _bucket_and_key(location)
        insist(location, lambda store: store.upload_file(str(path), **place))
        return
    with write_aside(location) as aside:
        shutil.copyfile(path, aside)


def download(location: str, path: str | Path) -> None:
    """Copy a file from a location to a local path, aside first."""
    if not is_remote(location) and not os.path.isfile(location):
        raise NotThere(f"{location}: no such file")
    with write_aside(path) as aside:
        if is_remote(location):
            _download(location, aside)
        else:
            shutil.copyfile(location, aside)


def _download(location: str, path: Path) -> None:
    place, seen = _bucket_and_key(location), set[str]()

    def fetch(store: Any) -> None:
        store.download_file(**place, Filename=str(path))
        with open(path, "rb") as file:
            require_same(store, place, store.head_object(**place), file, seen)

    insist(location, fetch)


@contextmanager
def local_copy(location: str, folder: Path) -> Iterator[Path]:
    """The file itself when it is local; otherwise a copy in ``folder`` for the length of the block."""
    if not is_remote(location):
        if not Path(location).is_file():
            raise NotThere(f"{location}: no such file")
        yield Path(location)
        return
    copy = folder / hashlib.sha256(location.encode()).hexdigest()[:24]
    download(location, copy)
    try:
        yield copy
    finally:
        copy.unlink()


def list_files(location: str) -> dict[str, int]:
    """Every file below a folder: name relative to it → bytes. Empty when there is no such folder."""
    if not is_remote(location):
        return dict(sorted(_local_files(Path(location)), key=lambda found: Path(found[0])))
    prefix = _bucket_and_key(location)["Key"].rstrip("/")
    prefix = f"{prefix}/" if prefix else ""
    return {
        entry["Key"][len(prefix) :]: entry["Size"]
        for entry in _objects(location, prefix)
        if not entry["Key"].endswith("/")
    }


def _objects(location: str, prefix: str) -> list[dict[str, Any]]:
    """What the bucket of the location lists of the keys that begin so."""
    bucket = _bucket_and_key(location)["Bucket"]

    def list_all(store: Any) -> list[dict[str, Any]]:
        pages = store.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [entry for page in pages for entry in page.get("Contents", [])]

    return insist(location, list_all)


def _local_files(root: Path) -> Iterator[tuple[str, int]]:
    """What others delete or move into place meanwhile is not there; it is no error."""
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder, name)
            try:
                status = file.stat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield str(file.relative_to(root)), status.st_size


def versions(location: str) -> dict[str, str]:
    """Every object below a location in a bucket: name relative to it ("" for the object itself) → its ETag."""
    key = _bucket_and_key(location)["Key"].rstrip("/")
    return {
        entry["Key"][len(key) :].lstrip("/"): entry["ETag"].strip('"')
        for entry in _objects(location, key)
        if not key or entry["Key"] == key or entry["Key"].startswith(f"{key}/")
    }


def delete(location: str) -> None:
    """Delete one file; nothing happens when there is none."""
    if not is_remote(location):
        Path(location).unlink(missing_ok=True)
        return
    place = _bucket_and_key(location)
    insist(location, lambda store: store.delete_object(**place))


def abort_uploads(location: str) -> int:
    """Drop what killed processes have sent of large files below a folder, which nobody sees and the store keeps.

    Returns how many there were. Nobody may be uploading there.
    """
    if not is_remote(location):
        return 0
    bucket, prefix = _bucket_and_key(location).values()

    def abort_all(store: Any) -> int:
        pages = store.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix.rstrip("/") + "/")
        begun = [upload for page in pages for upload in page.get("Uploads", [])]
        for upload in begun:
            store.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return len(begun)

    return insist(location, abort_all)


def sha256(path: str | Path) -> str:
    """Hex digest of a local file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(location: str) -> None:
    """Write and delete a probe file. Raises UserError with the reason when that fails."""
    probe = join(location, f".write-probe-{os.getpid()}")
    write_bytes(probe, b"probe")
    delete(probe)


def _bucket_and_key(location: str) -> dict[str, str]:
    """As boto3's arguments ``Bucket`` and ``Key``."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    if not bucket:
        raise UserError(f"{location}: names no bucket; the form is s3://bucket/folder")
    return {"Bucket": bucket, "Key": key}


def nearest_existing(path: str | Path) -> Path:
    """The local path itself, or the nearest folder above it that is there."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return path
