"""Fetching from a server with NLM's layout that misbehaves in the ways servers do."""

import hashlib
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from made import SMALL, YAML, documents, prepare

from base.errors import NotThere, UserError
from data_prep.download import mirror
from data_prep.download.mirror import Mirror
from data_prep.download.pubmed_files import fetch_pubmed
from data_prep.download.sample import write_sample
from data_prep.schema import DownloadPubmed, Sample

NAME = "pubmed26n1336.xml.gz"


class Server(ThreadingHTTPServer):
    """Serves ``files`` (``folder/name``) below /pubmed/; ``trouble``: what goes wrong with a name, in turn."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.trouble: dict[str, list[str]] = {}
        self.log: list[tuple[str, str | None]] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        for folder, numbers in (("baseline", (1333, 1334)), ("updatefiles", (1335, 1336))):
            for number in numbers:
                self.add(f"{folder}/pubmed26n{number}.xml.gz", random.Random(number).randbytes(300_000))
        self.files |= {"updatefiles/README.txt": b"", "updatefiles/pubmed26n1336_stats.html": b""}

    def add(self, path: str, data: bytes) -> None:
        name = path.rpartition("/")[2]
        self.files[path] = data
        self.files[f"{path}.md5"] = f"MD5({name})= {hashlib.md5(data).hexdigest()}\n".encode()

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{self.server_address[1]}/pubmed/{folder}/" for folder in ("baseline", "updatefiles")]

    def asked(self, ending: str = ".gz") -> list[str]:
        return [name for name, _ in self.log if name.endswith(ending)]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        data = self.server.files.get(self.path.removeprefix("/pubmed/"), b"")
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        try:
            self._get(self.path.removeprefix("/pubmed/"))
        finally:
            with self.server.lock:
                self.server.in_flight -= 1

    def _get(self, path: str) -> None:
        folder, _, name = path.rpartition("/")
        wanted = self.headers.get("Range")
        self.server.log.append((name, wanted))
        trouble = (self.server.trouble.get(name) or [""]).pop(0)
        if not name:
            page = "".join(
                f'<a href="{file.partition("/")[2]}">{file}</a> 2026-01-30 10:00 1M\n'
                for file in sorted(self.server.files)
                if file.startswith(f"{folder}/")
            )
            return self._answer(200, f"<pre><a href='/pubmed/'>Parent</a>\n{page}</pre>".encode())
        if trouble.startswith("503"):
            return self._answer(503, b"busy", {"Retry-After": trouble[4:]} if trouble[4:] else {})
        if trouble == "reset":
            return self._reset()
        if trouble == "web page":
            return self._answer(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        if path not in self.server.files:
            return self._answer(404, b"")
        data = self.server.files[path]
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        same = self.headers.get("If-Range", etag) == etag or trouble == "careless"
        first = int(wanted[6:-1]) if wanted and same and trouble != "no ranges" else 0
        if first >= len(data) > 0:
            return self._answer(416, b"")
        if trouble == "damaged":
            data = data[:-10] + bytes(10)
        body = data[first:]
        headers = {"ETag": etag} | ({"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {})
        if trouble == "slow":
            time.sleep(0.2)
        self._answer(206 if first else 200, body, headers, cut=len(body) // 2 if "cut" in trouble else None)
        return self._reset() if trouble == "cut and reset" else None

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(mirror, "FIRST_PAUSE", 0.01)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def get(server: Server, path: Path, attempts: int = 5) -> None:
    wanted = hashlib.md5(server.files[f"updatefiles/{NAME}"]).hexdigest()
    settings = DownloadPubmed(urls=server.urls, attempts=attempts, timeout_seconds=5)
    Mirror(settings).fetch(server.urls[1] + NAME, path, wanted, lambda _: None)


def fetch_all(server: Server, work: Path, newest: int | None = None) -> dict[str, object]:
    settings = DownloadPubmed(urls=server.urls, newest=newest, attempts=3, timeout_seconds=5, connections=2)
    (work / "pubmed").mkdir(parents=True, exist_ok=True)
    return fetch_pubmed(work, work / "pubmed", settings)


def packed(work: Path) -> list[str]:
    return [str(path.relative_to(work / "pubmed")) for path in sorted((work / "pubmed").rglob("*.gz"))]


# --- one file ----------------------------------------------------------------------------------------------------


def test_a_busy_server_is_asked_again_and_a_cut_body_is_gone_on_with(served: Server, tmp_path: Path) -> None:
    served.trouble[NAME] = ["503", "cut", "reset", "cut"]
    get(served, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == served.files[f"updatefiles/{NAME}"]
    assert [wanted for _, wanted in served.log] == [None, None, "bytes=150000-", "bytes=150000-", "bytes=225000-"]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_connections_that_are_reset_midway_do_no_harm(served: Server, tmp_path: Path) -> None:
    served.trouble[NAME] = ["cut and reset"] * 4
    get(served, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == served.files[f"updatefiles/{NAME}"]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_says_when_to_come_back_is_asked_then(
    served: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(mirror, "FIRST_PAUSE", 50)
    served.trouble[NAME] = ["503 0" if form == "seconds" else f"503 {formatdate(time.time() - 5, usegmt=True)}"]
    get(served, tmp_path / NAME)
    assert "HTTP 503 Service Unavailable; attempt 2 of 5 in 0.0 s" in capfd.readouterr().err


def test_a_server_without_ranges_sends_the_whole_file_again(served: Server, tmp_path: Path) -> None:
    served.trouble[NAME] = ["cut", "no ranges"]
    get(served, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == served.files[f"updatefiles/{NAME}"]


@pytest.mark.parametrize("server", ["heeds If-Range", "careless"])
def test_parts_of_two_states_of_a_file_are_never_put_together(served: Server, tmp_path: Path, server: str) -> None:
    old = served.files[f"updatefiles/{NAME}"]
    served.trouble[NAME] = ["cut"]
    with pytest.raises(UserError, match="150000 bytes early"):
        get(served, tmp_path / NAME, attempts=1)
    served.add(f"updatefiles/{NAME}", new := old[::-1])
    served.trouble[NAME] = ["careless"] if server == "careless" else []
    get(served, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == new
    assert len(served.log) == (3 if server == "careless" else 2)


def test_a_web_page_is_not_taken_for_the_file(served: Server, tmp_path: Path) -> None:
    served.trouble[NAME] = ["web page"]
    get(served, tmp_path / NAME)
    served.trouble[NAME] = ["web page"] * 2
    with pytest.raises(UserError, match="a web page came instead of the file"):
        get(served, tmp_path / "other.gz", attempts=2)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_wrong_checksum_is_never_moved_into_place(served: Server, tmp_path: Path) -> None:
    served.trouble[NAME] = ["damaged"] * 2
    with pytest.raises(UserError, match=r"its MD5 is .* but it was listed with"):
        get(served, tmp_path / NAME, attempts=2)
    assert list(tmp_path.iterdir()) == []
    get(served, tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == served.files[f"updatefiles/{NAME}"]


def test_a_later_run_goes_on_with_a_partial_file_and_leaves_a_whole_one(served: Server, tmp_path: Path) -> None:
    whole = served.files[f"updatefiles/{NAME}"]
    for have in (1000, len(whole)):
        (tmp_path / NAME).unlink(missing_ok=True)
        (tmp_path / f".{NAME}.part").write_bytes(whole[:have])
        get(served, tmp_path / NAME)
        assert served.log[-1] == (NAME, f"bytes={have}-") and (tmp_path / NAME).read_bytes() == whole
    before = len(served.log)
    get(served, tmp_path / NAME)
    assert served.log[before:] == []


def test_a_checksum_of_another_file_is_none(served: Server) -> None:
    settings = DownloadPubmed(urls=served.urls, attempts=2, timeout_seconds=5)
    served.files[f"updatefiles/{NAME}.md5"] = b"MD5(pubmed26n0001.xml.gz)= " + b"0" * 32
    with pytest.raises(UserError, match=f"holds no MD5 checksum of {NAME}"):
        Mirror(settings).checksum(served.urls[1] + NAME)
    served.files[f"updatefiles/{NAME}.md5"] = b"0" * 32 + f"  {NAME}\n".encode()
    assert Mirror(settings).checksum(served.urls[1] + NAME) == "0" * 32


def test_what_is_missing_is_not_asked_for_again(served: Server) -> None:
    with pytest.raises(NotThere, match="404"):
        Mirror(DownloadPubmed(urls=served.urls)).checksum(served.urls[1] + "nothing.gz")
    assert len(served.log) == 1


def test_the_probe_answers_within_seconds(served: Server) -> None:
    assert mirror.reachable(served.urls[0])
    start = time.monotonic()
    assert not mirror.reachable("http://10.255.255.1/", seconds=1)  # answers nothing at all
    assert not mirror.reachable("http://nowhere.invalid/", seconds=1)
    assert time.monotonic() - start < 4


# --- all files ---------------------------------------------------------------------------------------------------


def test_files_of_all_folders_come_and_are_kept_apart(served: Server, tmp_path: Path) -> None:
    summary = fetch_all(served, tmp_path)
    expected = [path for path in served.files if path.endswith(".gz")]
    assert packed(tmp_path) == expected and summary["files"] == 4 and summary["bytes"] == 1_200_000
    for path in expected:
        assert (tmp_path / "pubmed" / path).read_bytes() == served.files[path]
        assert (tmp_path / "pubmed" / f"{path}.md5").read_bytes() == served.files[f"{path}.md5"]
    assert served.most_in_flight <= 2


def test_the_newest_files_are_those_with_the_highest_numbers_of_all_folders(served: Server, tmp_path: Path) -> None:
    served.add("baseline/pubmed27n0001.xml.gz", b"of the next year")
    fetch_all(served, tmp_path, newest=3)
    assert packed(tmp_path) == [
        "baseline/pubmed27n0001.xml.gz",
        "updatefiles/pubmed26n1335.xml.gz",
        "updatefiles/pubmed26n1336.xml.gz",
    ]
    with pytest.raises(UserError, match=r"newest=6: there are only 5 files in"):
        fetch_all(served, tmp_path / "other", newest=6)


def test_a_file_without_its_checksum_is_not_taken_for_whole(
    served: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    served.files["updatefiles/pubmed26n1337.xml.gz"] = b"still being written"
    fetch_all(served, tmp_path, newest=1)
    assert packed(tmp_path) == [f"updatefiles/{NAME}"]
    assert "lists pubmed26n1337.xml.gz without its .md5; left out" in capfd.readouterr().err


def test_a_second_run_asks_nothing_and_reads_no_file(
    served: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch_all(served, tmp_path)
    served.log.clear()
    monkeypatch.setattr(mirror, "_md5", lambda path: pytest.fail(f"{path} is read again"))
    assert fetch_all(served, tmp_path) == first
    assert served.log == []


def test_a_checked_file_that_was_changed_since_is_fetched_again(served: Server, tmp_path: Path) -> None:
    fetch_all(served, tmp_path)
    place = tmp_path / "pubmed" / "updatefiles" / NAME
    place.write_bytes(place.read_bytes()[::-1])
    with open(tmp_path / "pubmed-checked.jsonl", "a") as journal:
        journal.write('["cut o')  # by a kill
    served.log.clear()
    fetch_all(served, tmp_path)
    assert served.asked() == [NAME] and place.read_bytes() == served.files[f"updatefiles/{NAME}"]


def test_the_listing_is_frozen_until_it_is_deleted(served: Server, tmp_path: Path) -> None:
    first = fetch_all(served, tmp_path)
    served.add("updatefiles/pubmed26n1337.xml.gz", b"new")
    served.add(f"updatefiles/{NAME}", b"changed under the same name")
    assert fetch_all(served, tmp_path) == first
    (tmp_path / "pubmed-listing.json").unlink()
    served.log.clear()
    assert fetch_all(served, tmp_path)["listing_sha256"] != first["listing_sha256"]
    assert sorted(served.asked()) == [NAME, "pubmed26n1337.xml.gz"]
    assert (tmp_path / "pubmed" / "updatefiles" / NAME).read_bytes() == b"changed under the same name"


def test_a_file_that_was_taken_away_is_told_when_all_others_are_here(served: Server, tmp_path: Path) -> None:
    fetch_all(served, tmp_path / "first")
    shutil.copy(tmp_path / "first" / "pubmed-listing.json", tmp_path)
    del served.files["baseline/pubmed26n1333.xml.gz"]
    with pytest.raises(
        UserError, match=r"1 of 4 listed PubMed files are no longer.*\n.*n1333.*404.*\ndelete .*listing"
    ):
        fetch_all(served, tmp_path)
    assert len(packed(tmp_path)) == 3
    del served.files["baseline/pubmed26n1333.xml.gz.md5"]
    (tmp_path / "pubmed-listing.json").unlink()
    assert fetch_all(served, tmp_path)["files"] == 3


def test_a_failure_ends_the_others_and_the_next_run_goes_on(served: Server, tmp_path: Path) -> None:
    served.trouble["pubmed26n1334.xml.gz"] = ["cut", "503", "503"]
    with pytest.raises(UserError, match=r"n1334\.xml\.gz: HTTP 503 .*tried 3 times"):
        fetch_all(served, tmp_path)
    there = packed(tmp_path)
    served.log.clear()
    fetch_all(served, tmp_path)
    assert set(served.asked()) == {path.partition("/")[2] for path in packed(tmp_path) if path not in there}
    assert ("pubmed26n1334.xml.gz", "bytes=150000-") in served.log


def test_files_of_another_listing_are_neither_parsed_nor_deleted(served: Server, tmp_path: Path) -> None:
    fetch_all(served, tmp_path)
    with pytest.raises(UserError, match=r"holds 3 file\(s\) that are not listed now, as baseline/pubmed26n1333.xml.gz"):
        fetch_all(served, tmp_path, newest=1)
    assert len(packed(tmp_path)) == 4


def test_two_folders_of_one_name_are_a_fault(tmp_path: Path) -> None:
    urls = "download.pubmed.urls=[https://a.org/x/baseline/,https://b.org/baseline,https://c.org/]"
    with pytest.raises(UserError, match=r"another one ends in baseline as well(.|\n)*c.org/: must end in the name"):
        prepare("ncbi", tmp_path, urls, "download")


def test_fetched_files_go_through_all_stages(served: Server, tmp_path: Path) -> None:
    names = write_sample(tmp_path / "made", Sample(citations=150))
    served.files.clear()
    for name in names[1:]:
        served.add(f"updatefiles/{name}", (tmp_path / "made" / name).read_bytes())
    urls = f"download.pubmed.urls=[{served.urls[1]}]"
    prepare("ncbi", tmp_path / "out", urls, "download.pubmed.newest=2", "download", "parse", "select")
    found = {row["source_file"] for row in documents(tmp_path / "out").values()}
    assert found == {f"updatefiles/{name}" for name in names[1:]}


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_files(served: Server, tmp_path: Path) -> None:
    for number in range(1, 12):
        served.add(f"baseline/pubmed26n{number:04d}.xml.gz", random.Random(number).randbytes(300_000))
    served.trouble = {path.partition("/")[2]: ["slow"] for path in served.files}
    urls = f"download.pubmed.urls=[{','.join(served.urls)}]"
    command = [sys.executable, "-m", "data_prep", YAML, "pubmed=ncbi", f"out={tmp_path}", urls]
    command += ["download.pubmed.newest=null", "download", *SMALL]
    run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(served.asked()) < 6:
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = len(served.asked())
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    files = {path: data for path, data in served.files.items() if path.endswith(".gz")}
    assert {path: (tmp_path / "work/download/pubmed" / path).read_bytes() for path in files} == files
    assert packed(tmp_path / "work" / "download") == sorted(files) and before >= 6
    assert len(served.asked()) < before + len(files)  # whole ones were not asked for again
    summary = json.loads((tmp_path / "work" / "done" / "download.json").read_text())["summary"]["pubmed"]
    assert summary["files"] == len(files)
