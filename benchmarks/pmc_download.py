"""What it costs to pack PMC's articles from a bucket: CPU per article and requests a second, with 1 and 2 workers.

The bucket is the local S3 server, on the same cores as the downloader, so the requests a second are a floor: NLM's
has cores of its own, but is some tens of milliseconds away, which more connections make up for. The CPU seconds are
those of the downloader alone. Articles are invented, each with 1 kB of metadata and 80 kB of XML; all are wanted.

The inventory is as large as the real one, 8 million lines, and made up as well: frozen from a manifest, then cut.

    python -m benchmarks pmc_download
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from base import storage
from base.local_s3 import LocalS3, local_s3

REPORTS = "inventory-reports/pmc-oa-opendata/metadata"
FREEZE = """
import resource, sys, time
from pathlib import Path
from data_prep.download.pmc_inventory import cut, frozen_inventory
from data_prep.schema import DownloadPmc
start = time.process_time()
path, noted = frozen_inventory(Path(sys.argv[1]), DownloadPmc(inventory=sys.argv[2]))
frozen = time.process_time()
slices = cut(path, 20_000, None)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(noted["entries"], len(slices), frozen - start, time.process_time() - frozen, peak, path.stat().st_size)
"""


def measure(arguments: list[str]) -> dict[str, Any]:
    """``download`` by number of workers, and ``inventory``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks pmc_download",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--articles", type=int, default=3000)
    parser.add_argument("--kilobytes", type=int, default=80, help="of XML in each")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--lines", type=int, default=8_000_000, help="of the inventory")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, _public_bucket(Path(folder) / "s3") as server:
        os.environ.update(server.environment)
        storage._client.cache_clear()
        _fill(server, given.articles, given.kilobytes)
        runs = {
            workers: _download(server, Path(folder) / f"out-{workers}", workers, given.connections)
            for workers in (1, 2, 1, 2)  # twice, the second counts: the server has its caches then
        }
        inventory = _inventory(Path(folder) / "inventory", given.lines)
    return {"articles": given.articles, "connections": given.connections, "download": runs, "inventory": inventory}


@contextmanager
def _public_bucket(folder: Path) -> Iterator[LocalS3]:
    """Anybody may read it, as NLM's."""
    owner = {"name": "owner", "credentials": [{"accessKey": "owner", "secretKey": "of the bucket"}]}
    anybody = {"name": "anonymous", "actions": ["Read", "List"]}
    folder.mkdir()
    identities = [{**owner, "actions": ["Admin", "Read", "Write", "List"]}, anybody]
    (folder / "identities.json").write_text(json.dumps({"identities": identities}))
    with local_s3(folder) as server:
        yield server


def _fill(server: LocalS3, articles: int, kilobytes: int) -> None:
    chance = random.Random(0)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(chance.choices(letters, k=chance.randint(2, 12))) for _ in range(3000)]
    rows: list[str] = []

    def put(number: int) -> None:
        text = random.Random(number)
        name = f"PMC{2_000_000 + 3 * number}.1"
        body = b"".join(
            f"<p>{' '.join(text.choices(words, k=90))} <xref rid='B{text.randint(1, 99)}'/></p>".encode()
            for _ in range(kilobytes * 1000 // 740)
        )
        xml = b"<article><front/><body>" + body + b"</body></article>"
        metadata = {
            "pmcid": name[:-2], "version": 1, "license_code": "CC BY", "is_pmc_openaccess": True,
            "citation": " ".join(text.choices(words, k=100)),
            "xml_url": f"s3://pmc-oa-opendata/{name}/{name}.xml?md5={hashlib.md5(xml).hexdigest()}",
        }  # fmt: skip
        data = json.dumps(metadata).encode()
        storage.write_bytes(server.location("metadata", f"{name}.json"), data)
        storage.write_bytes(server.location(name, f"{name}.xml"), xml)
        rows.append(_row(name, hashlib.md5(data).hexdigest()))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(articles)))
    part = gzip.compress("".join(sorted(rows)).encode())
    storage.write_bytes(server.location("part.csv.gz"), part)
    manifest = server.location(REPORTS, "2026-09-14T01-00Z", "manifest.json")
    storage.write_bytes(manifest, _manifest({"part.csv.gz": part}))


def _row(name: str, md5: str) -> str:
    return f'"pmc-oa-opendata","metadata/{name}.json","2026-09-13T00:00:00.000Z","{md5}"\n'


def _manifest(parts: dict[str, bytes]) -> bytes:
    files = [
        {"key": key, "size": len(part), "MD5checksum": hashlib.md5(part).hexdigest()} for key, part in parts.items()
    ]
    columns = "Bucket, Key, LastModifiedDate, ETag"
    return json.dumps({"fileFormat": "CSV", "fileSchema": columns, "files": files}).encode()


def _download(server: LocalS3, out: Path, workers: int, connections: int) -> dict[str, Any]:
    out = out.with_name(f"{out.name}-{time.monotonic_ns()}")
    command = [
        sys.executable, "-m", "data_prep", "yamls/data/quickstart.yaml", "pubmed=null", "pmc=pmc-oa",
        "tokenizer.train_on=[pmc]", f"out={out}", f"executor.workers={workers}", "download",
        f"download.pmc.bucket=s3://{server.bucket}", f"download.pmc.endpoint={server.endpoint}",
        f"download.pmc.connections={connections}",
        "download.pmc.ids_per_container=1500",
    ]  # fmt: skip
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads((out / "work" / "done" / "download.json").read_text())["summary"]["pmc"]
    packed = sum(file.stat().st_size for file in (out / "work" / "download" / "pmc").glob("*.tar.gz"))
    return {
        "seconds": round(seconds, 2),
        "requests_per_second": round(summary["requests"] / seconds),
        "megabytes_per_second": round(summary["bytes"] / seconds / 1e6, 1),
        "cpu_ms_per_article": round(1000 * cpu / summary["articles"], 2),
        "peak_memory_bytes_of_a_process": after.ru_maxrss * 1024,
        "bytes": summary["bytes"],
        "bytes_packed": packed,
        "retries": summary["retries"],
    }


def _inventory(folder: Path, lines: int) -> dict[str, Any]:
    folder.mkdir()
    chance = random.Random(0)
    names = [f"{number}.csv.gz" for number in range(5)]  # as many as NLM's has
    for first, name in enumerate(names):
        with gzip.open(folder / name, "wt", compresslevel=1) as part:
            for number in range(first, lines, len(names)):
                pmcid = 13_000_000 * ((number * 7919) % lines) // lines  # in no order
                part.write(_row(f"PMC{pmcid}.1", f"{chance.getrandbits(128):032x}"))
    (folder / "manifest.json").write_bytes(_manifest({name: (folder / name).read_bytes() for name in names}))
    command = [sys.executable, "-c", FREEZE, str(folder), str(folder / "manifest.json")]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    entries, containers, freeze, cutting, peak, size = (float(word) for word in printed)
    return {
        "entries": int(entries), "containers": int(containers), "freeze_cpu_seconds": round(freeze, 1),
        "cut_cpu_seconds": round(cutting, 1), "peak_memory_bytes": int(peak), "bytes": int(size),
    }  # fmt: skip
