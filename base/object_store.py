"""The client of the S3 store, and what is done when the store fails: the one place that says what is worth doing again.

=====================================================  ================================================================
the store fails: 5xx, SlowDown, a connection that is   again, with pauses from FIRST_PAUSE to LONGEST_PAUSE, until it
refused or reset, a body that is cut or was altered    has failed TRIES times, over PATIENCE; then
                                                       :class:`StoreTrouble`
an endpoint that has never answered this process       no more than boto3's own 5 tries, for most likely it is wrong;
cannot be reached                                      :class:`StoreTrouble`
credentials have expired; a HEAD is refused (403,      again with new credentials, RENEWALS times: a file or a service
which says no more)                                    may have new ones; then UserError
anything else that is refused                          UserError at once
=====================================================  ================================================================

A single request is repeated by boto3. This is for what it does not repeat, such as an error in reading a body.
"""

import hashlib
import os
import random
from collections.abc import Callable
from functools import cache
from io import BufferedIOBase
from time import monotonic, sleep
from typing import Any, TypeVar

from base.errors import NotThere, StoreTrouble, UserError
from base.progress import say

T = TypeVar("T")

PATIENCE, TRIES = 120.0, 3  # seconds; a single transfer may take longer
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds
RENEWALS = 4
SILENT_PAUSE = 1.0  # seconds; what takes longer is said

FOR_NOW = (
    "BadDigest", "IncompleteBody", "NoSuchUpload", "PreconditionFailed", "RequestTimeout", "SlowDown", "Throttling",
    "XAmzContentSHA256Mismatch",
)  # fmt: skip
EXPIRED = ("403", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
ABSENT = ("404", "NoSuchBucket", "NoSuchKey", "NotFound")
REMEDIES = {
    "InvalidAccessKeyId": "the access key is not known there; check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not fit the access key; check AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "these credentials may not do that; check the bucket's policy",
    "403": "these credentials may not do that; check the keys and the bucket's policy",
    "ExpiredToken": "the session token has expired; renew it",
    "NoSuchBucket": "there is no such bucket; create it or mend its name",
    "NoSuchKey": "there is no such object",
    "404": "there is no such object",
    "BadDigest": "what arrived there is not what was sent",
}

_answered: set[str] = set()  # endpoints


def _endpoint() -> str:
    return os.environ.get("S3_ENDPOINT_URL", "AWS")


@cache
def client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(  # boto3.client would keep the first credentials for good
        "s3",
        endpoint_url=os.environ.get("S3_ENDPOINT_URL"),
        config=Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=60),
    )


class _Altered(Exception):
    """Bytes came that are not those of the object."""


def insist(location: str, work: Callable[[Any], T]) -> T:
    """Do ``work``, which gets the client, and do it again as the table above says. Returns its result.

    Args:
        location: what it is about, for the messages. These never hold a secret.
        work: must be of no harm when it is done twice, or has been done and failed in the end.

    Raises:
        StoreTrouble: the store fails for now.
        NotThere: there is no such bucket or object, or no credentials.
        UserError: what the user must mend.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    failed: list[float] = []  # when
    pause, renewals = FIRST_PAUSE, 0
    while True:
        try:
            result = work(client())
        except (BotoCoreError, ClientError, Boto3Error, ResponseParserError, HTTPError, _Altered) as error:
            cause = _cause(error)
            fault = _told(location, cause)
            failed.append(monotonic())
            if _code(cause) in EXPIRED and renewals < RENEWALS:
                renewals += 1
                client.cache_clear()
            elif not isinstance(fault, StoreTrouble) or (_is_unreachable(cause) and _endpoint() not in _answered):
                raise fault from error
            elif len(failed) >= TRIES and failed[-1] - failed[0] > PATIENCE:
                raise StoreTrouble(f"{fault}; so it has been for {failed[-1] - failed[0]:.0f} s") from error
            if isinstance(cause, ClientError):
                _answered.add(_endpoint())
            if pause > SILENT_PAUSE:
                say(f"{fault}; trying again")
            sleep(pause * random.uniform(0.5, 1))  # many ranks meet the same trouble
            pause = min(2 * pause, LONGEST_PAUSE)
        else:
            _answered.add(_endpoint())
            return result


def require_same(
    store: Any, place: dict[str, str], answer: dict[str, Any], data: BufferedIOBase, seen: set[str]
) -> None:
    """Have :func:`insist` do it again when the bytes are not those that the ETag of the answer tells.

    It is the MD5 of an object, or that of its parts' MD5s and their number; not so with a key of KMS, and not in every
    store. So what has come twice is taken for what lies there.

    Args:
        place: Bucket and Key.
        answer: to a GET or a HEAD.
        data: what came, from its begin.
        seen: what has come before.
    """
    etag = answer["ETag"].strip('"')
    if answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer:
        return
    part = store.head_object(**place, PartNumber=1)["ContentLength"] if "-" in etag else None
    found = _etag(data, part)
    if found != etag and found not in seen:
        seen.add(found)
        raise _Altered(f"its bytes are not those of its ETag {etag}")


def _etag(data: BufferedIOBase, part: int | None) -> str:
    """The MD5, or with the bytes of a part the MD5 of the MD5s of the parts and how many these are."""
    if part is None:
        return hashlib.file_digest(data, _md5).hexdigest()
    digests: list[bytes] = []
    while True:
        digest, left = _md5(), part
        while left and (block := data.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        if left == part:
            return f"{_md5(b''.join(digests)).hexdigest()}-{len(digests)}"
        digests.append(digest.digest())


def _md5(data: bytes = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)


def _cause(error: Exception) -> Exception:
    """What boto3 has wrapped."""
    from boto3.exceptions import RetriesExceededError, S3UploadFailedError

    if isinstance(error, RetriesExceededError):
        return error.last_exception  # type: ignore[attr-defined]
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, Exception):
        return error.__context__
    return error


def _code(error: Exception) -> str:
    from botocore.exceptions import ClientError

    return error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""


def _is_unreachable(error: Exception) -> bool:
    from botocore.exceptions import ConnectionError

    return isinstance(error, ConnectionError)


def _told(location: str, error: Exception) -> UserError:
    """A message that names the location, the endpoint and the remedy, never a secret."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        CredentialRetrievalError,
        FlexibleChecksumError,
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
    )

    place = f"{location} at {_endpoint()}"
    if isinstance(error, NoCredentialsError):
        return NotThere(f"{location}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile")
    if isinstance(error, ClientError):
        code, answer = _code(error), error.response
        remedy = REMEDIES.get(code, answer.get("Error", {}).get("Message", "") or "the request was refused")
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        passing = status >= 500 or status in (408, 429) or code in FOR_NOW
        kind = NotThere if code in ABSENT else StoreTrouble if passing else UserError
        return kind(f"{place}: {code}: {remedy}")
    if _is_unreachable(error):
        return StoreTrouble(f"{place}: cannot be reached: {error}")
    passing_kinds = (CredentialRetrievalError, FlexibleChecksumError, HTTPClientError, IncompleteReadError)
    mendable = isinstance(error, BotoCoreError) and not isinstance(error, passing_kinds)
    return (UserError if mendable else StoreTrouble)(f"{place}: {error}")
