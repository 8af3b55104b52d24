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
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from base.errors import UserError
from base.progress import say
from data_prep.schema import NLM

LINK = re.compile(r"""href=["']?(?:[^"'>]*/)?(pubmed(\d\d)n(\d{4,5})\.xml\.gz)["'>\s]""", re.I)
CHECKSUM = re.compile(r"\b([0-9a-f]{32})\b", re.I)  # MD5(name)= hex, as openssl writes it, or md5sum's form
AGENT = "biomedlm-recipe (data_prep)"
FIRST_PAUSE = 1.0  # seconds before the second attempt; doubled for each further one
MISSING = (401, 403, 404, 410)  # no use in asking again
TRANSIENT = (urllib.error.URLError, http.client.HTTPException, OSError)


def reachable(url: str, seconds: float = 4.0) -> bool:
    """Whether a server answers at ``url`` within so many seconds, name look-up included."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            with _request(url, {}, timeout=seconds, method="HEAD") as answer:
                answers.append(answer.status < 400)
        except TRANSIENT:
            pass

    thread = threading.Thread(target=ask, daemon=True)  # a name look-up has no time limit of its own
    thread.start()
    thread.join(seconds)
    return bool(answers and answers[0])


def newest_files(url: str, number: int, attempts: int, timeout: float) -> list[str]:
    """Names of the newest files in a folder, oldest first. Raises UserError when it lists none, or fewer."""
    page = _text(url, attempts, timeout)
    found = {match[1]: (int(match[2]), int(match[3])) for match in LINK.finditer(page)}
    if len(found) < number:
        raise UserError(f"{url}: lists {len(found)} file(s) named pubmedYYnNNNN.xml.gz, but {number} were asked for")
    return sorted(found, key=lambda name: found[name])[-number:]


def fetch(url: str, path: Path, attempts: int, timeout: float, advance: Callable[[int], None]) -> None:
    """Get ``url`` into ``path``, checked against ``url.md5``; a file that is there and fits is not fetched again.

    A partial file stays beside it (``.NAME.part``) and is gone on with, in this run or a later one.

    Raises:
        UserError: after so many attempts; says what went wrong last.
    """
    match = CHECKSUM.search(_text(f"{url}.md5", attempts, timeout))
    if match is None:
        raise UserError(f"{url}.md5: holds no MD5 checksum")
    wanted = match[1].lower()
    if path.exists() and _md5(path) == wanted:
        return
    partial = path.with_name(f".{path.name}.part")

    def attempt() -> None:
        _append(url, partial, timeout, advance)
        got = _md5(partial)
        if got != wanted:
            partial.unlink()  # going on with it would never mend it
            raise OSError(f"its MD5 is {got}, but {path.name}.md5 says {wanted}")

    _insist(attempt, url, attempts)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def _append(url: str, partial: Path, timeout: float, advance: Callable[[int], None]) -> None:
    """Get what is missing of a partial file; raises when the body ends before its announced length."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        answer = _request(url, headers, timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing lies behind what we have: it is whole, or longer than the file
            raise
        return
    with answer:
        if answer.status == 206 and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            raise OSError("the server sent another range than it was asked for")
        with open(partial, "ab" if answer.status == 206 else "wb") as file:
            while block := answer.read(1 << 18):  # raises IncompleteRead when the connection ends early
                file.write(block)
                advance(len(block))
            left = answer.length
    if left:
        raise OSError(f"the connection ended {left} bytes early")


def _text(url: str, attempts: int, timeout: float) -> str:
    def attempt() -> str:
        with _request(url, {}, timeout) as answer:
            return answer.read().decode("utf-8", "replace")

    return _insist(attempt, url, attempts)


def _insist(attempt: Callable[[], Any], url: str, attempts: int) -> Any:
    """Call ``attempt`` until it does not raise, waiting longer each time (or as long as the server asks)."""
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except TRANSIENT as error:
            reason = f"HTTP {error.code} {error.reason}" if isinstance(error, urllib.error.HTTPError) else str(error)
            final = isinstance(error, urllib.error.HTTPError) and error.code in MISSING
            if final or number == attempts:
                tries = "" if final else f" (tried {attempts} times)"
                remedy = "check download.pubmed.urls, or give local files: pubmed=FOLDER"
                raise UserError(f"{url}: {reason}{tries}; {remedy}") from None
            pause = FIRST_PAUSE * 2 ** (number - 1)
            if isinstance(error, urllib.error.HTTPError) and (error.headers.get("Retry-After") or "").isdigit():
                pause = min(float(error.headers["Retry-After"]), 120.0)
            say(f"{url}: {reason}; attempt {number + 1} of {attempts} in {pause:.0f} s")
            time.sleep(pause)
    raise AssertionError("attempts is at least 1")


def _request(url: str, headers: dict[str, str], timeout: float, method: str = "GET") -> Any:
    # ftp.ncbi.nlm.nih.gov packs the transport when allowed to, which would make ranges mean something else.
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity", **headers}
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=timeout)


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
