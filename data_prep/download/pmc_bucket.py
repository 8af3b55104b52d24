"""NLM's bucket of PMC articles: one object asked for until it is whole, and one article from its two objects.

The bucket is flat: ``metadata/PMC<id>.<version>.json`` and, named by ``xml_url`` in it, the JATS text. Single-part
objects have their MD5 as ETag, and ``xml_url`` ends in ``?md5=HEX``.
"""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from base.errors import UserError
from data_prep.download.retries import Stopped, Transient, insist
from data_prep.parse.article_metadata import flag, text_of
from data_prep.parse.article_xml import MEMBER_LIMIT
from data_prep.parse.licenses import from_code, permitted
from data_prep.schema import DownloadPmc, Select

T = TypeVar("T")
XML_URL = re.compile(r"s3://[^/]+/([^?]+)(?:\?md5=([0-9a-fA-F]{32}))?")
MD5 = re.compile(r"[0-9a-f]{32}")
FIRST_PAUSE = 0.25  # seconds before the second attempt
BLOCK = 1 << 20
ABSENT = ("404", "NoSuchKey", "NotFound")
REMEDY = "run the same command again to go on, what is there already is kept; or give local files: pmc=FOLDER"


class Unavailable(Exception):
    """The bucket will not give this object, however often it is asked; ``kind`` says why, in the ledger's words."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


@dataclass
class Bucket:
    """A place ``s3://bucket[/prefix]`` and how it is asked, by several threads at once.

    Attributes:
        counts: ``requests``, ``retries``, ``bytes`` so far; ``changed``: objects that are whole but no longer what the
            inventory, or the metadata, said of them.
        stop: ends all waiting.
    """

    settings: DownloadPmc
    connections: int
    counts: Counter[str] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: str, md5: str | None, max_bytes: int | None = None) -> bytes:
        """A whole object.

        An object whose bytes fit the ETag that came with them is whole. When they do not fit ``md5``, it has been
        replaced since ``md5`` was noted; the old one is not to be had any more, so it is taken, and counted.

        Raises:
            Unavailable: ``gone`` or ``too_large``.
            UserError: not to be had after so many attempts, or not allowed.
        """

        def attempt() -> bytes:
            body, etag = self._ask(key, max_bytes)
            got = hashlib.md5(body).hexdigest()
            if got != md5 and got != etag and (md5 or MD5.fullmatch(etag)):
                raise Transient(f"its MD5 is {got}, but should be {md5 or etag}")
            if md5 and got != md5:
                self._count(changed=1)
            return body

        return self._insist(attempt, key)

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders directly below ``prefix``, which ends in a slash."""

        def attempt() -> list[str]:
            with _sorting_errors(self._place(prefix)):
                bucket, whole = self._bucket_and_key(prefix)
                pages = self._client.get_paginator("list_objects_v2").paginate(
                    Bucket=bucket, Prefix=whole, Delimiter="/"
                )
                found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
                return [name[len(whole) :].rstrip("/") for name in found]

        return self._insist(attempt, prefix)

    def _ask(self, key: str, max_bytes: int | None) -> tuple[bytes, str]:
        self._count(requests=1)
        bucket, whole = self._bucket_and_key(key)
        with _sorting_errors(self._place(key)):
            answer = self._client.get_object(Bucket=bucket, Key=whole)
            if max_bytes is not None and answer["ContentLength"] > max_bytes:
                answer["Body"].close()
                raise Unavailable("too_large")
            blocks = []
            while block := answer["Body"].read(BLOCK):
                blocks.append(block)
                if self.stop.is_set():
                    raise Stopped(key)
        body = b"".join(blocks)
        self._count(bytes=len(body))
        return body, answer["ETag"].strip('"')

    def _insist(self, attempt: Callable[[], T], key: str) -> T:
        def tell(_: str) -> None:  # many connections would fill the screen; the summary has the number
            self._count(retries=1)

        return insist(attempt, self._place(key), self.settings.attempts, FIRST_PAUSE, REMEDY, self.stop, tell)

    def _count(self, **numbers: int) -> None:
        with self._lock:
            self.counts.update(numbers)

    def _place(self, key: str) -> str:
        return f"{self.settings.bucket.rstrip('/')}/{key}"

    def _bucket_and_key(self, key: str) -> tuple[str, str]:
        bucket, _, rest = self._place(key).removeprefix("s3://").partition("/")
        return bucket, rest

    @cached_property
    def _client(self) -> Any:
        import botocore.session
        from botocore import UNSIGNED
        from botocore.config import Config

        settings = self.settings
        more: dict[str, Any] = {"signature_version": UNSIGNED} if settings.anonymous else {}
        more["ignore_configured_endpoint_urls"] = True  # those are of the user's own store
        config = Config(
            region_name="us-east-1",
            max_pool_connections=self.connections,
            connect_timeout=min(settings.timeout_seconds, 20),
            read_timeout=settings.timeout_seconds,
            retries={"total_max_attempts": 1},  # ours, which can be stopped and are counted
            response_checksum_validation="when_required",  # the MD5 is checked here
            **more,
        )
        return botocore.session.Session().create_client("s3", endpoint_url=settings.endpoint, config=config)


@contextmanager
def _sorting_errors(place: str) -> Iterator[None]:
    """Sort what botocore raises by whether to ask again."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
    )

    try:
        yield
    except ClientError as error:
        code, message = (error.response.get("Error", {}).get(name, "") for name in ("Code", "Message"))
        answer = error.response.get("ResponseMetadata", {})
        status = answer.get("HTTPStatusCode", 0)
        if code in ABSENT:
            raise Unavailable("gone") from None
        if status >= 500 or status in (408, 429) or code in ("SlowDown", "RequestTimeout"):
            raise Transient(f"HTTP {status} {code}", answer.get("HTTPHeaders", {}).get("retry-after")) from None
        raise UserError(f"{place}: {code}: {message}; check download.pmc (bucket, endpoint, anonymous)") from None
    except (NoCredentialsError, PartialCredentialsError):
        raise UserError(f"{place}: no credentials; set them, or download.pmc.anonymous=true") from None
    except ParamValidationError as error:
        raise UserError(f"{place}: {error}; check download.pmc.bucket") from None
    except (BotoCoreError, OSError) as error:
        raise Transient(str(error)) from None


@dataclass(frozen=True)
class Entry:
    """A line of the inventory: the metadata of one version of an article, by its MD5."""

    pmcid: int
    version: int
    etag: str

    @property
    def name(self) -> str:
        """``PMC123.1``"""
        return f"PMC{self.pmcid}.{self.version}"

    @property
    def key(self) -> str:
        """Where its metadata lies."""
        return f"metadata/{self.name}.json"


@dataclass(frozen=True)
class Held:
    """What a container has of an article."""

    metadata: bytes
    xml: bytes | None


@dataclass(frozen=True)
class Fetched:
    """What goes into a container for an entry.

    Attributes:
        outcome: ``fetched`` (the XML is there), ``not_wanted``, ``without_xml`` (the metadata name none), ``gone``,
            ``too_large``, ``malformed`` (the metadata are no JSON object).
        reused: nothing was asked of the bucket.
    """

    metadata: bytes
    xml: bytes | None
    outcome: str
    reused: bool


def wanted(metadata: dict[str, Any], select: Select) -> bool:
    """Whether the text of an article may be used by ``select.license`` and ``select.manuscripts``.

    Scanned articles of the 18th to 20th century are never wanted. Author manuscripts outside the Open Access Subset
    are, with ``manuscripts``, when ``license`` takes their code, which is ``TDM``.
    """
    if flag(metadata.get("is_historical_ocr")):
        return False
    if not (flag(metadata.get("is_pmc_openaccess")) or (flag(metadata.get("is_manuscript")) and select.manuscripts)):
        return False
    return permitted(from_code(text_of(metadata.get("license_code"))), select.license)


def fetch_article(bucket: Bucket, entry: Entry, select: Select, held: Held | None) -> Fetched:
    """Get an article's metadata and, when wanted, its text; what is held and has not changed is not asked for."""
    reused = held is not None and _md5(held.metadata) == entry.etag
    try:
        raw = held.metadata if held is not None and reused else bucket.get(entry.key, entry.etag, MEMBER_LIMIT)
    except Unavailable as reason:
        return _without(entry, {}, reason.kind)
    try:
        metadata = json.loads(raw)
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict):
        return _without(entry, {}, "malformed")
    if not wanted(metadata, select):
        return Fetched(raw, None, "not_wanted", reused)
    url = XML_URL.fullmatch(str(metadata.get("xml_url")))
    if url is None:
        return Fetched(raw, None, "without_xml", reused)
    key, md5 = url[1], (url[2] or "").lower() or None
    if held is not None and held.xml is not None and md5 and _md5(held.xml) == md5:
        return Fetched(raw, held.xml, "fetched", reused)
    try:
        # The URL names NLM's bucket; a mirror keeps the URLs and has the same keys.
        return Fetched(raw, bucket.get(key, md5, MEMBER_LIMIT), "fetched", False)
    except Unavailable as reason:
        return _without(entry, metadata, reason.kind)


def _without(entry: Entry, metadata: dict[str, Any], reason: str) -> Fetched:
    """An article that is listed but not to be had ends in the ledger by its ``error``."""
    note = {**metadata, "pmcid": f"PMC{entry.pmcid}", "version": entry.version, "error": reason}
    return Fetched(json.dumps(note, sort_keys=True).encode(), None, reason, False)


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()
