"""Fetching from a server with NLM's layout that misbehaves in the ways servers do."""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from made import documents, prepare

from base.errors import UserError
from data_prep.download import mirror
from data_prep.download.sample import write_sample
from data_prep.schema import Sample


class Mirror(ThreadingHTTPServer):
    """Serves ``files`` below /pubmed/updatefiles/; ``trouble`` maps a file to what goes wrong, one entry a request."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.trouble: dict[str, list[str]] = {}
        self.log: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/pubmed/updatefiles/"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        wanted = self.headers.get("Range")
        self.server.log.append((name, wanted))
        todo = self.server.trouble.get(name) or [""]
        trouble = todo.pop(0)
        if not name:
            page = "".join(f'<a href="{file}">{file}</a> 2026-01-30 10:00 1M\n' for file in sorted(self.server.files))
            return self._answer(200, f"<pre><a href='/pubmed/'>Parent</a>\n{page}</pre>".encode())
        if trouble == "503" or name not in self.server.files:
            return self._answer(503 if trouble else 404, b"busy")
        data = self.server.files[name]
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and trouble != "no ranges" else 0
        if first >= len(data) > 0:
            return self._answer(416, b"")
        if trouble == "damaged":
            data = data[:-10] + bytes(10)
        body = data[first:]
        headers = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        return self._answer(206 if first else 200, body, headers, cut=len(body) // 2 if trouble == "cut" else None)

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
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setattr(mirror, "FIRST_PAUSE", 0.01)
    files = {f"pubmed26n{number}.xml.gz": random.Random(number).randbytes(300_000) for number in (1334, 1335, 1336)}
    checksums = {
        f"{name}.md5": f"MD5({name})= {hashlib.md5(data).hexdigest()}\n".encode() for name, data in files.items()
    }
    with Mirror(files | checksums | {"README.txt": b"", "pubmed26n1336_stats.html": b""}) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


NAME = "pubmed26n1336.xml.gz"


def get(server: Mirror, path: Path, attempts: int = 5) -> Callable[[], None]:
    return lambda: mirror.fetch(server.url + NAME, path, attempts, 5, lambda _: None)


def test_the_newest_files_are_the_ones_with_the_highest_numbers(served: Mirror) -> None:
    served.files["pubmed27n0001.xml.gz"] = b""
    assert mirror.newest_files(served.url, 2, 1, 5) == ["pubmed26n1336.xml.gz", "pubmed27n0001.xml.gz"]
    with pytest.raises(UserError, match="lists 4"):
        mirror.newest_files(served.url, 5, 1, 5)


def test_a_busy_server_is_asked_again_and_a_cut_body_is_gone_on_with(served: Mirror, tmp_path: Path) -> None:
    served.trouble[NAME] = ["503", "cut", "503", "cut"]
    get(served, tmp_path / NAME)()
    assert (tmp_path / NAME).read_bytes() == served.files[NAME]
    ranges = [wanted for name, wanted in served.log if name == NAME]
    assert ranges == [None, None, "bytes=150000-", "bytes=150000-", "bytes=225000-"]


def test_a_server_without_ranges_sends_the_whole_file_again(served: Mirror, tmp_path: Path) -> None:
    served.trouble[NAME] = ["cut", "no ranges"]
    get(served, tmp_path / NAME)()
    assert (tmp_path / NAME).read_bytes() == served.files[NAME]


def test_a_wrong_checksum_is_never_moved_into_place(served: Mirror, tmp_path: Path) -> None:
    served.trouble[NAME] = ["damaged"] * 2
    with pytest.raises(UserError, match=r"its MD5 is .* but .*md5 says"):
        get(served, tmp_path / NAME, attempts=2)()
    assert list(tmp_path.iterdir()) == []
    get(served, tmp_path / NAME)()
    assert (tmp_path / NAME).read_bytes() == served.files[NAME]


def test_a_later_run_goes_on_with_a_partial_file_and_leaves_a_whole_one(served: Mirror, tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.part").write_bytes(served.files[NAME][:1000])
    get(served, tmp_path / NAME)()
    assert served.log[-1] == (NAME, "bytes=1000-")
    before = len(served.log)
    get(served, tmp_path / NAME)()
    assert [name for name, _ in served.log[before:]] == [f"{NAME}.md5"]


def test_a_missing_folder_is_not_asked_for_again(served: Mirror) -> None:
    with pytest.raises(UserError, match="404"):
        mirror.newest_files(served.url + "nothing", 1, 5, 5)
    assert len(served.log) == 1


def test_the_probe_answers_within_seconds(served: Mirror) -> None:
    assert mirror.reachable(served.url)
    start = time.monotonic()
    assert not mirror.reachable("http://10.255.255.1/", seconds=1)  # answers nothing at all
    assert not mirror.reachable("http://nowhere.invalid/", seconds=1)
    assert time.monotonic() - start < 4


def test_fetched_files_go_through_all_stages(served: Mirror, tmp_path: Path) -> None:
    names = write_sample(tmp_path / "made", Sample(citations=150))
    served.files = {file.name: file.read_bytes() for file in (tmp_path / "made").iterdir()}
    prepare(
        "ncbi",
        tmp_path / "out",
        f"download.pubmed.urls=[{served.url}]",
        "download.pubmed.newest=2",
        "download",
        "parse",
        "select",
    )
    assert {row["source_file"] for row in documents(tmp_path / "out").values()} == set(names[1:])
