"""Fetch the official files of tasks: ``python -m eval get TASK [TASK …] --data FOLDER [--again]``.

From the Hugging Face hub (``HF_ENDPOINT`` names a mirror; ``HF_TOKEN`` is sent to it and to no other server) and from
GitHub (``--github`` names a mirror of its raw files). What is fetched is written in the official format and layout, is
read as questions, and is put into place only when it has as many rows as a known release: a part never lies there.
"""

import argparse
import http.client
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from base import storage
from base.errors import MayPass, UserError
from base.progress import progress, say
from eval.official_files import Questions, load_questions
from eval.task import Download, Protocol
from eval.tasks import NAMES, protocols

HUB = "https://huggingface.co"
GITHUB = "https://raw.githubusercontent.com"
SECONDS = 60.0  # without a byte
AGENT = "biomedlm-recipe (eval)"
ASK_AGAIN = (408, 425, 429)  # of the answers 4xx


def get(asked: Sequence[Protocol], data: str, again: bool = False, github: str = GITHUB) -> None:
    """Fetch what the protocols need and say what has come; what is there already is kept unless ``again``.

    Raises:
        UserError: all that could not be got, after all else has been; MayPass when another try may get it.
    """
    faults: list[UserError] = []
    for protocol in asked:
        try:
            say(_get(protocol, Path(data), again, github).describe())
        except UserError as error:
            faults.append(error)
    if faults:
        kind = MayPass if all(isinstance(fault, MayPass) for fault in faults) else UserError
        raise kind("\n".join(str(fault) for fault in faults))


def _get(protocol: Protocol, data: Path, again: bool, github: str) -> Questions:
    task = protocol.task
    sources = [task.scored, *([task.shots] if protocol.shots and task.shots else [])]
    downloads = list(dict.fromkeys(download for source in sources for download in source.downloads))
    try:
        data.mkdir(parents=True, exist_ok=True)
        # Laid out like the data folder, and on its disk: read and judged there, then moved.
        with tempfile.TemporaryDirectory(prefix=".get-", dir=data) as aside:
            fetched = [one for one in downloads if again or not (data / one.to).exists()]
            for download in downloads:
                place = Path(aside) / download.to
                if download in fetched:
                    storage.write_bytes(str(place), _content(download, github))
                else:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.symlink_to((data / download.to).resolve())
            if fetched:
                _require_a_release(load_questions(protocol, aside), [_url(one, github) for one in fetched])
            for download in fetched:
                (data / download.to).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(aside) / download.to, data / download.to)
    except OSError as error:
        raise storage.disk_error(data, error) from error
    return load_questions(protocol, str(data))


def _require_a_release(questions: Questions, urls: Sequence[str]) -> None:
    """A server may have another version, or have ended its answer early without a length that shows it."""
    releases = questions.protocol.task.scored.releases
    if all(release.rows != questions.rows_in_file for release in releases):
        raise UserError(
            f"{', '.join(urls)}: not kept, since it is no known release: {questions.describe()}. "
            f"{questions.protocol.task.origin}"
        )


def _url(download: Download, github: str) -> str:
    if download.server == "github":
        return f"{github.rstrip('/')}/{download.repository}/master/{download.file}"
    hub = os.environ.get("HF_ENDPOINT") or HUB
    return f"{hub.rstrip('/')}/datasets/{download.repository}/resolve/main/{download.file}"


def _content(download: Download, github: str) -> bytes:
    """The official file's bytes. Raises UserError; MayPass when another try may go well."""
    url = _url(download, github)
    if not url.startswith(("https://", "http://")):
        raise UserError(f"{url}: not a web address; HF_ENDPOINT and --github name one (https://…)")
    content = _fetch(url, os.environ.get("HF_TOKEN") if download.server == "hub" else None)
    try:
        return download.convert(content) if download.convert else content
    except UserError as error:
        raise UserError(f"{url}: {error}") from None


def _fetch(url: str, token: str | None) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": AGENT})
    if token:
        # Unredirected: the hub sends on to a storage server, which has no business with the token.
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    parts = []
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            length = answer.headers.get("Content-Length", "")
            with progress(url, int(length) if length.isdigit() else None, "bytes") as advance:
                while block := answer.read(1 << 18):
                    parts.append(block)
                    advance(len(block))
            if answer.length:
                raise MayPass(f"{url}: the connection ended {answer.length:,} bytes early; run the command again")
    except urllib.error.HTTPError as error:
        raise _refusal(url, error) from None
    except (TimeoutError, http.client.HTTPException, ConnectionError) as error:
        raise MayPass(f"{url}: {str(error) or type(error).__name__}; run the command again") from None
    except urllib.error.URLError as error:
        raise UserError(
            f"{url}: cannot be reached: {error.reason}; HF_ENDPOINT names a mirror of the hub, --github one of GitHub"
        ) from None
    return b"".join(parts)


def _refusal(url: str, error: urllib.error.HTTPError) -> UserError:
    told = f"{url}: HTTP {error.code} {error.reason}"
    if error.code >= 500 or error.code in ASK_AGAIN:
        return MayPass(f"{told}; run the command again later")
    if error.code in (401, 403):
        return UserError(f"{told}; HF_TOKEN holds a token of the hub, where one is needed")
    return UserError(f"{told}; the file is not there any more, or not on this mirror")


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m eval get",
        description=__doc__,
        epilog=f"tasks: {', '.join(NAMES)}, mmlu_SUBJECT. With shots (medqa_2shot) the files of these, too.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="as in an evaluation's tasks")
    parser.add_argument("--data", default=os.environ.get("BIOMEDLM_QA", "data/qa"), help="the folder (data/qa)")
    parser.add_argument("--again", action="store_true", help="fetch what is there already, too")
    parser.add_argument("--github", default=GITHUB, metavar="URL", help=f"raw files of GitHub ({GITHUB})")
    given = parser.parse_args(arguments)
    get(protocols(given.tasks), given.data, given.again, given.github)
