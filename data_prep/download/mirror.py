"""PubMed files from NLM or any mirror of its layout: a folder page with links, beside each file its ``.md5``.

``python -m data_prep.download.mirror [URL]`` ends with 0 when the server answers within seconds, and with 1 otherwise.
"""

import argparse
import hashlib
import http.client
import os
import re
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from base import storage
from base.errors import NotThere, UserError
from base.progress import say
from data_prep.download.retries import Stopped, Transient, insist
from data_prep.schema import NLM, DownloadPubmed

T = TypeVar("T")
LINK = re.compile(r"""href=["']?(?:[^"'>]*/)?(pubmed(\d\d)n(\d{4,5})\.xml\.gz)(\.md5)?["'>\s]""", re.I)
# MD5(name)= hex, as openssl writes it and NLM has it; or md5sum's form
CHECKSUM = re.compile(
    r"^(?:MD5 ?\((?P<openssl>[^)\n]+)\) ?= ?)?(?P<md5>[0-9a-f]{32})(?: [ *](?P<md5sum>\S+))?\s*$", re.I
)
AGENT = "biomedlm-recipe (data_prep)"
FIRST_PAUSE = 1.0  # seconds before the second attempt
GONE = (404, 410)
ASK_AGAIN = (408, 425, 429)  # of the answers 4xx; all others say that the request is at fault
REMEDY = "check download.pubmed.urls, or give local files: pubmed=FOLDER"


@dataclass(frozen=True)
class Mirror:
    """How a server is asked. All methods raise UserError, and NotThere when the server has no such file."""

    settings: DownloadPubmed
    stop: threading.Event = field(default_factory=threading.Event)

    def listed(self, url: str) -> list[str]:
        """Names of the PubMed files of a folder, oldest first. A file without its ``.md5`` is still on its way there.

        Raises:
            UserError: the page lists none.
        """
        page = self._insist(lambda: self._text(url), url)
        found = {match[1]: (int(match[2]), int(match[3])) for match in LINK.finditer(page) if not match[4]}
        checked = {match[1] for match in LINK.finditer(page) if match[4]}
        for name in sorted(found.keys() - checked):
            say(f"{url}: lists {name} without its .md5; left out, it may not be whole yet")
        if not found.keys() & checked:
            raise UserError(f"{url}: lists no file named pubmedYYnNNNN.xml.gz with its .md5; {REMEDY}")
        return sorted(found.keys() & checked, key=lambda name: found[name])

    def checksum(self, url: str) -> str:
        """The MD5 of a file, by the ``.md5`` beside it."""
        name = url.rpartition("/")[2]

        def attempt() -> str:
            text = self._text(f"{url}.md5")
            match = CHECKSUM.match(text.strip())
            if match is None or (match["openssl"] or match["md5sum"] or name) != name:
                raise Transient(f"holds no MD5 checksum of {name}, but {text.strip()[:60]!r}")
            return match["md5"].lower()

        return self._insist(attempt, f"{url}.md5")

    def size(self, url: str) -> int | None:
        """Bytes of a file, or None when the server does not say."""

        def attempt() -> int | None:
            with _answer(url, {}, self.settings.timeout_seconds, "HEAD", expected=(405, 501)) as answer:
                length = answer.headers.get("Content-Length", "") if answer.status < 300 else ""
                return int(length) if length.isdigit() else None

        return self._insist(attempt, url)

    def fetch(self, url: str, path: Path, md5: str, advance: Callable[[int], None]) -> None:
        """Get ``url`` into ``path``, checked against its MD5; a file that is there and fits is not fetched again.

        A partial file stays beside it (``.NAME.part``) and is gone on with, in this run or a later one.
        """
        partial = path.with_name(f".{path.name}.part")
        if path.exists() and _md5(path) == md5:
            _discard(partial)
            return

        def attempt() -> None:
            self._append(url, partial, advance)
            got = _md5(partial)
            if got != md5:
                _discard(partial)  # going on with it would never mend it
                raise Transient(f"its MD5 is {got}, but it was listed with {md5}")

        self._insist(attempt, url)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        _discard(partial)

    def _append(self, url: str, partial: Path, advance: Callable[[int], None]) -> None:
        """Get what is missing of a partial file; raises Transient when the body ends before its announced length."""
        have = partial.stat().st_size if partial.exists() else 0
        state = _state_file(partial).read_text() if have and _state_file(partial).exists() else ""
        headers = {"Range": f"bytes={have}-"} if have else {}
        if state:  # the server then sends the rest only of that very file, and a whole one otherwise (RFC 9110, 13.1.5)
            headers["If-Range"] = state
        with _answer(url, headers, self.settings.timeout_seconds, expected=(416,)) as answer:
            if answer.status == 416:  # nothing lies behind what we have: it is whole, or not this file
                return
            if answer.headers.get_content_type() == "text/html":
                raise Transient("a web page came instead of the file")
            if answer.status == 206:
                if not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
                    raise Transient("the server sent another range than it was asked for")
                if state and _state(answer) not in ("", state):
                    _discard(partial)
                    raise Transient("the file has changed on the server since a part of it was fetched")
            with _open(partial, "ab" if answer.status == 206 else "wb", _state(answer)) as write:
                while block := answer.read(1 << 18):
                    write(block)
                    advance(len(block))
                    if self.stop.is_set():
                        raise Stopped(url)
            if answer.length:
                raise Transient(f"the connection ended {answer.length} bytes early")

    def _text(self, url: str) -> str:
        with _answer(url, {}, self.settings.timeout_seconds) as answer:
            text = answer.read().decode("utf-8", "replace")
            if answer.length:
                raise Transient(f"the connection ended {answer.length} bytes early")
            return text

    def _insist(self, attempt: Callable[[], T], url: str) -> T:
        return insist(attempt, url, self.settings.attempts, FIRST_PAUSE, REMEDY, self.stop, say)


def reachable(url: str, seconds: float = 4.0) -> bool:
    """Whether a server answers at ``url`` within so many seconds, name look-up included."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            with _answer(url, {}, timeout=seconds, method="HEAD") as answer:
                answers.append(answer.status < 400)
        except (UserError, Transient):
            pass

    thread = threading.Thread(target=ask, daemon=True)  # a name look-up has no time limit of its own
    thread.start()
    thread.join(seconds)
    return bool(answers and answers[0])


@contextmanager
def _answer(
    url: str, headers: dict[str, str], timeout: float, method: str = "GET", expected: tuple[int, ...] = ()
) -> Iterator[Any]:
    """A server's answer; whatever fails until the end of the ``with`` block is sorted by whether to ask again."""
    # ftp.ncbi.nlm.nih.gov packs the transport when allowed to, which would make ranges mean something else.
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity", **headers}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=timeout) as it:
            yield it
    except urllib.error.HTTPError as error:
        reason = f"HTTP {error.code} {error.reason}"
        if error.code in expected:
            yield error
        elif error.code in GONE:
            raise NotThere(f"{url}: {reason}; {REMEDY}") from None
        elif 400 <= error.code < 500 and error.code not in ASK_AGAIN:
            raise UserError(f"{url}: {reason}; {REMEDY}") from None
        else:
            raise Transient(reason, error.headers.get("Retry-After")) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise Transient(str(error) or type(error).__name__) from None


@contextmanager
def _open(partial: Path, mode: str, state: str) -> Iterator[Callable[[bytes], object]]:
    """A partial file to write to. A full disk is no fault of the server's."""
    try:
        if mode == "wb":
            _discard(partial)
            _state_file(partial).write_text(state)
        file = open(partial, mode)  # noqa: SIM115 - closed below
    except OSError as error:
        raise storage.disk_error(partial, error) from error

    def write(block: bytes) -> None:
        try:
            file.write(block)
        except OSError as error:
            raise storage.disk_error(partial, error) from error

    try:
        yield write
    finally:
        try:
            file.close()
        except OSError as error:
            raise storage.disk_error(partial, error) from error


def _state(answer: Any) -> str:
    """What names the file's present state: a strong ETag, or the time of its last change."""
    etag = answer.headers.get("ETag") or ""
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified") or ""


def _state_file(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.state")


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _state_file(partial).unlink(missing_ok=True)


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def main() -> None:
    """Answer whether a server can be reached."""
    parser = argparse.ArgumentParser(prog="python -m data_prep.download.mirror", description=main.__doc__)
    parser.add_argument("url", nargs="?", default=NLM)
    parser.add_argument("--seconds", type=float, default=4.0)
    arguments = parser.parse_args()
    answers = reachable(arguments.url, arguments.seconds)
    print(f"{arguments.url}: {'answers' if answers else 'does not answer'}")
    sys.exit(0 if answers else 1)


if __name__ == "__main__":
    main()
