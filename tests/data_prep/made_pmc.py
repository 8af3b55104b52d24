"""A bucket as NLM's is laid out, with invented articles, and a proxy that does to it what networks do."""

import gzip
import hashlib
import http.client
import json
import random
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from base import storage
from base.local_s3 import LocalS3, local_s3

BUCKET = "pmc-oa-opendata"
REPORTS = "inventory-reports/pmc-oa-opendata"
# One article in each ten: its licence code, and what else is so about it.
KINDS: list[tuple[str | None, dict[str, bool]]] = [
    ("CC BY", {}), ("CC0", {}), ("CC BY-NC", {}), ("CC BY 4.0", {}), (None, {}), ("CC BY", {"is_historical_ocr": True}),
    ("TDM", {"is_manuscript": True, "is_pmc_openaccess": False}), ("CC BY", {"is_retracted": True}),
    ("CC BY-NC-ND", {}), ("CC BY", {}),
]  # fmt: skip


def article(number: int, words: int = 300, version: int = 1) -> tuple[str, dict[str, Any], bytes]:
    """Name, metadata and XML of an invented article; the PMCIDs of following numbers are 7 apart."""
    chance = random.Random(1000 * number + version)
    pmcid = 1003 + 7 * number
    name = f"PMC{pmcid}.{version}"
    text = " ".join(chance.choice(("dose", "trial", "liver", "of", "the", "β-cell", "cohort")) for _ in range(words))
    xml = f"<article><front/><body><p>{pmcid} {text}</p></body></article>".encode()
    code, flags = KINDS[number % len(KINDS)]
    metadata = {
        "pmcid": f"PMC{pmcid}", "version": version, "pmid": None, "title": f"Invented {number}",
        "is_pmc_openaccess": True, "is_manuscript": False, "is_historical_ocr": False, "is_retracted": False,
        "license_code": code, "xml_url": f"s3://{BUCKET}/{name}/{name}.xml?md5={md5(xml)}", **flags,
    }  # fmt: skip
    return name, metadata, xml


def objects(numbers: range, words: int = 300) -> dict[str, bytes]:
    """Key → bytes of these articles; each twentieth has a second version."""
    found: dict[str, bytes] = {}
    for number in numbers:
        for version in (1, 2) if number % 20 == 3 else (1,):
            name, metadata, xml = article(number, words, version)
            found[f"metadata/{name}.json"] = found[f"{name}/{name}.json"] = json.dumps(metadata).encode()
            found[f"{name}/{name}.xml"] = xml
    return found


def inventory(listed: dict[str, bytes], date: str, parts: int = 2) -> dict[str, bytes]:
    """The inventory of that day, in so many parts and in no order, with its manifest."""
    keys = sorted((key for key in listed if key.startswith("metadata/")), key=lambda key: md5(key.encode()))
    folder, files, found = f"{REPORTS}/metadata/{date}T01-00Z", [], {}
    for part in range(parts):
        rows = [
            f'"{BUCKET}","{key}","{date}T00:00:00.000Z","{md5(listed[key])}"\n'
            for key in [*keys[part::parts], *(["metadata/", "metadata/README.txt"] if part == 0 else [])]
            if key in listed or (part == 0 and not listed.setdefault(key, b""))
        ]
        data = gzip.compress("".join(rows).encode(), mtime=0)
        key = f"{REPORTS}/metadata/data/{md5(data)}.csv.gz"
        found[key] = data
        files.append({"key": key, "size": len(data), "MD5checksum": md5(data)})
    manifest = {
        "sourceBucket": BUCKET, "destinationBucket": f"arn:aws:s3:::{BUCKET}", "version": "2016-11-30",
        "fileFormat": "CSV", "fileSchema": "Bucket, Key, LastModifiedDate, ETag", "files": files,
    }  # fmt: skip
    return {**found, f"{folder}/manifest.json": json.dumps(manifest).encode()}


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@contextmanager
def public_bucket(folder: Path) -> Iterator[LocalS3]:
    """A real S3 server whose bucket anybody may read and list, as NLM's."""
    owner = {"name": "owner", "credentials": [{"accessKey": "owner", "secretKey": "of the bucket"}]}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    anybody = {"name": "anonymous", "actions": ["Read", "List"]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "identities.json").write_text(json.dumps({"identities": [{**owner, "actions": actions}, anybody]}))
    with local_s3(folder, bucket=BUCKET) as server:
        yield server


def put(server: LocalS3, prefix: str, content: dict[str, bytes]) -> None:
    """Store objects, with the owner's keys in the environment (the ``s3`` fixture's way)."""
    storage._client()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: storage.write_bytes(f"s3://{BUCKET}/{prefix}/{key}", content[key]), content))


def members(container: Path) -> dict[str, bytes]:
    """Name → bytes, in order."""
    with tarfile.open(container) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


class Proxy(ThreadingHTTPServer):
    """Stands before a server. ``trouble`` gives, for a path and how often it was asked for before, what goes wrong."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, behind: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = urlsplit(behind).netloc
        self.trouble: Callable[[str, int], str] = lambda path, before: ""
        self.log: list[str] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with self.server.lock:
            before = self.server.log.count(self.path)
            self.server.log.append(self.path)
        trouble = self.server.trouble(self.path, before)
        if trouble.startswith("503"):
            body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
            return self._send(503, {"Retry-After": "0"} if trouble == "503 now" else {}, body)
        if trouble == "reset":
            return self._reset()
        if trouble == "403":
            return self._send(403, {}, b"<Error><Code>AccessDenied</Code><Message>No.</Message></Error>")
        if trouble == "slow":
            time.sleep(0.05)
        with_server = http.client.HTTPConnection(self.server.behind, timeout=30)
        with_server.request("GET", self.path)
        answer = with_server.getresponse()
        body = answer.read()
        with_server.close()
        headers = {name: answer.headers[name] for name in ("ETag", "Content-Type") if answer.headers[name]}
        if trouble == "wrong bytes" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if trouble == "huge":
            return self._send(200, headers, body, length=65 << 20)
        self._send(answer.status, headers, body, cut=trouble.startswith("cut"))
        return self._reset() if trouble == "cut and reset" else None

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, cut: bool = False, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut or length is not None

    def log_message(self, format: str, *arguments: object) -> None:
        pass
