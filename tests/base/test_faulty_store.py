"""Whatever a store does wrong for now, all that talks to it comes through; what lasts is one clear error."""

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from base import object_store, storage
from base.errors import FAILED, StoreTrouble, UserError, run_command
from base.local_s3 import LocalS3
from benchmarks.faulty_proxy import ALL_KINDS, FaultyProxy, faulty_proxy

OBJECT = bytes(range(256)) * 1000
LARGE = 9_000_000  # bytes: boto3 sends it in two parts, and fetches it in two


@pytest.fixture
def proxy(s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Between this process and the server, with no fault as yet."""
    with faulty_proxy(s3.endpoint, rate=0.0, seed=1, stall_seconds=0.05) as proxy:
        monkeypatch.setenv("S3_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.01)
        monkeypatch.setattr(object_store, "LONGEST_PAUSE", 0.1)
        storage._client.cache_clear()
        yield proxy
        storage._client.cache_clear()


def signed(s3: LocalS3, proxy: FaultyProxy, method: str, key: str) -> str:
    """A URL that a bare HTTP client can use, on the proxy."""
    return boto3.session.Session().client(
        "s3", endpoint_url=proxy.endpoint, config=Config(signature_version="s3v4")
    ).generate_presigned_url(method, {"Bucket": s3.bucket, "Key": key}, 60)  # fmt: skip


def ask(url: str, method: str, body: bytes | None = None) -> tuple[int, bytes, http.client.HTTPResponse]:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=10)
    connection.request(method, f"{place.path}?{place.query}", body)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer


def test_without_faults_the_proxy_hands_on_everything_as_it_is_and_keeps_connections(s3, proxy, tmp_path):
    large = os.urandom(LARGE)
    (tmp_path / "large").write_bytes(large)
    storage.upload(tmp_path / "large", s3.location("proxy", "large"))
    storage.write_bytes(s3.location("proxy", "empty"), b"")
    assert storage.read_bytes(s3.location("proxy", "large")) == large
    assert storage.read_bytes(s3.location("proxy", "large"), 10) == large[:10]
    assert storage.list_files(s3.location("proxy")) == {"empty": 0, "large": LARGE}
    assert proxy.counts.keys() == {"requests"}

    connection = http.client.HTTPConnection(urlsplit(proxy.endpoint).netloc, timeout=10)
    for _ in range(2):  # on one connection
        url = urlsplit(signed(s3, proxy, "put_object", "proxy/chunked"))
        connection.request("PUT", f"{url.path}?{url.query}", iter([b"12", b"345"]), encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        assert connection.sock is not None
    assert storage.read_bytes(s3.location("proxy", "chunked")) == b"12345"


@pytest.mark.parametrize(("kind", "code"), [("500", "InternalError"), ("503", "SlowDown"), ("403", "ExpiredToken")])
def test_a_refusal_has_the_form_of_s3_and_a_head_no_body(s3, proxy, kind, code):
    storage.write_bytes(s3.location("proxy", "x"), OBJECT)
    proxy.kinds, proxy.rate = (kind,), 1.0
    status, body, _ = ask(signed(s3, proxy, "get_object", "proxy/x"), "GET")
    assert status == int(kind) and f"<Code>{code}</Code>".encode() in body
    status, body, _ = ask(signed(s3, proxy, "head_object", "proxy/x"), "HEAD")
    assert status == int(kind) and body == b""
    assert proxy.counts[kind] == 2


def test_a_reset_comes_in_the_middle_of_the_body_up_or_down(s3, proxy):
    storage.write_bytes(s3.location("proxy", "x"), OBJECT)
    proxy.kinds, proxy.rate = ("reset",), 1.0
    with pytest.raises(ConnectionResetError):
        ask(signed(s3, proxy, "get_object", "proxy/x"), "GET")
    stored = set()
    for number in range(20):
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            ask(signed(s3, proxy, "put_object", f"reset/{number}"), "PUT", os.urandom(1_000_000))
    proxy.rate = 0.0
    stored = storage.list_files(s3.location("reset"))
    assert 0 < len(stored) < 20 and set(stored.values()) == {1_000_000}  # some after all was done, some before
    assert proxy.counts["reset"] == 21


def test_a_truncated_body_is_shorter_than_its_length_and_the_connection_is_closed(s3, proxy):
    storage.write_bytes(s3.location("proxy", "x"), OBJECT)
    proxy.kinds, proxy.rate = ("truncated",), 1.0
    with pytest.raises(http.client.IncompleteRead) as error:
        ask(signed(s3, proxy, "get_object", "proxy/x"), "GET")
    assert OBJECT.startswith(error.value.partial) and len(error.value.partial) < len(OBJECT)
    assert ask(signed(s3, proxy, "head_object", "proxy/x"), "HEAD")[0] == 200  # has nothing to cut
    assert proxy.counts["truncated"] == 1


def test_a_wrong_byte_is_one_bit_of_an_object_and_none_of_a_listing(s3, proxy):
    storage.write_bytes(s3.location("proxy", "x"), OBJECT)
    proxy.kinds, proxy.rate = ("wrong",), 1.0
    _, down, answer = ask(signed(s3, proxy, "get_object", "proxy/x"), "GET")
    assert int(answer.headers["Content-Length"]) == len(OBJECT)
    assert ask(signed(s3, proxy, "put_object", "proxy/up"), "PUT", OBJECT)[0] == 200  # unsigned, so not noticed
    storage.list_files(s3.location("proxy"))
    assert proxy.counts["wrong"] == 2
    proxy.rate = 0.0
    up = storage.read_bytes(s3.location("proxy", "up"))
    for data in (down, up):
        assert sum((a ^ b).bit_count() for a, b in zip(data, OBJECT, strict=True)) == 1


def test_a_stall_answers_late_and_the_proxy_listens_on_loopback_alone(s3, proxy):
    storage.write_bytes(s3.location("proxy", "x"), OBJECT)
    proxy.kinds, proxy.rate, proxy.stall_seconds = ("stall",), 1.0, 3.0
    place = urlsplit(signed(s3, proxy, "get_object", "proxy/x"))
    connection = http.client.HTTPConnection(place.netloc, timeout=0.5)
    connection.request("GET", f"{place.path}?{place.query}")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    proxy.stall_seconds = 0.0
    assert ask(place.geturl(), "GET")[1] == OBJECT
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", urlsplit(proxy.endpoint).port), timeout=5)  # as 0.0.0.0 would


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_function_comes_through_a_fault_of_any_kind(s3, proxy, tmp_path, kind):
    small, large = os.urandom(10_000), tmp_path / "large"
    large.write_bytes(os.urandom(LARGE))
    folder = s3.location(f"faults-{kind}")
    proxy.kinds, proxy.rate = (kind,), 0.2
    for number in range(8):
        place = storage.join(folder, str(number))
        storage.write_bytes(place, small)
        assert storage.read_bytes(place) == small
        assert storage.size(place) == len(small)
        assert len(storage.read_bytes(place, 100)) == 100
        assert storage.list_files(folder) == {str(number): len(small)}
        assert storage.versions(folder).keys() == {str(number)}
        storage.download(place, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == small
        storage.delete(place)
        assert not storage.exists(place)
    for _ in range(2):
        storage.upload(large, storage.join(folder, "large"))
        storage.download(storage.join(folder, "large"), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == large.read_bytes()
        assert storage.read_bytes(storage.join(folder, "large")) == large.read_bytes()
    assert proxy.counts[kind] > 3
    proxy.rate = 0.0
    assert storage.read_bytes(storage.join(folder, "large")) == large.read_bytes()


@pytest.mark.parametrize("kind", ["500", "503", "reset", "truncated"])
def test_a_store_that_fails_for_long_is_trouble_to_start_again_after(s3, proxy, monkeypatch, capsys, kind):
    storage.write_bytes(s3.location("down"), OBJECT)
    monkeypatch.setattr(object_store, "PATIENCE", 0.0)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)  # boto3's own pauses
    proxy.kinds, proxy.rate = (kind,), 1.0
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: print(storage.read_bytes(s3.location("down"))))
    assert ended.value.code == FAILED
    message = capsys.readouterr().err
    assert message.startswith(f"error: {s3.location('down')} at {proxy.endpoint}: ") and message.count("\n") == 1


def test_a_store_that_goes_away_is_waited_for_and_one_that_never_answered_is_not(s3, proxy, monkeypatch):
    paused: list[float] = []
    monkeypatch.setattr(object_store, "sleep", paused.append)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    monkeypatch.setattr(object_store, "PATIENCE", 0.3)
    monkeypatch.setattr(object_store, "_answered", set())
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    storage._client.cache_clear()
    for answered in (False, True):
        with pytest.raises(StoreTrouble, match="cannot be reached"):
            storage.read_bytes(s3.location("away"))
        assert bool(paused) == answered
        object_store._answered.add("http://127.0.0.1:9")


@pytest.mark.parametrize("size", [10_000, LARGE])
def test_bytes_that_come_altered_every_time_are_trouble_and_never_taken(s3, proxy, monkeypatch, tmp_path, size):
    place = s3.location(f"altered-{size}")
    storage.write_bytes(place, os.urandom(size))
    (tmp_path / "file").write_bytes(os.urandom(size))
    storage.upload(tmp_path / "file", f"{place}-uploaded")
    monkeypatch.setattr(object_store, "PATIENCE", 0.2)
    proxy.kinds, proxy.rate = ("wrong",), 1.0
    for each in (place, f"{place}-uploaded"):
        with pytest.raises(StoreTrouble):
            storage.read_bytes(each)
        with pytest.raises(StoreTrouble):
            storage.download(each, tmp_path / "back")
    with pytest.raises(StoreTrouble, match="BadDigest"):
        storage.upload(tmp_path / "file", place)
    assert not (tmp_path / "back").exists()


def test_an_etag_that_is_no_md5_does_not_stop_what_comes_the_same_twice(s3, proxy, monkeypatch):
    storage.write_bytes(s3.location("kms"), OBJECT)
    monkeypatch.setattr(object_store, "_etag", lambda data, part: "another")
    before = proxy.counts["requests"]
    assert storage.read_bytes(s3.location("kms")) == OBJECT
    assert proxy.counts["requests"] - before == 2


def test_renewed_credentials_are_taken_up_and_expired_ones_told_after_a_few_tries(s3, proxy, monkeypatch):
    place = s3.location("expired")
    storage.write_bytes(place, b"1")
    right = os.environ["AWS_SECRET_ACCESS_KEY"]
    proxy.kinds, proxy.rate = ("403",), 1.0
    paused = 0

    def renew(_: float) -> None:
        nonlocal paused
        paused += 1
        if paused == 2:  # what was read into the first client would be refused for good
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", right)
            proxy.rate = 0.0

    monkeypatch.setattr(object_store, "sleep", renew)
    for work in (storage.read_bytes, storage.size):
        paused, proxy.rate = 0, 1.0
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "expired")
        storage._client.cache_clear()
        assert work(place) in (b"1", 1)
        assert paused == 2
    proxy.rate = 1.0
    paused = 10
    with pytest.raises(UserError, match="ExpiredToken: the session token has expired; renew it") as told:
        storage.read_bytes(place)
    assert not isinstance(told.value, StoreTrouble)
    assert paused == 10 + object_store.RENEWALS


def test_a_denial_is_told_at_once(s3, proxy, monkeypatch):
    def never(_: float) -> None:
        raise AssertionError

    monkeypatch.setattr(object_store, "sleep", never)
    with pytest.raises(UserError, match="NoSuchBucket") as told:
        storage.list_files("s3://no-such-bucket/x")
    assert not isinstance(told.value, StoreTrouble)
    with pytest.raises(UserError, match="NoSuchKey"):
        storage.read_bytes(s3.location("nothing", "there"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage._client.cache_clear()
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY"):
        storage.read_bytes(s3.location("nothing"))


def test_what_a_full_disk_ends_is_not_told_as_trouble_of_the_store(s3, tmp_path):
    storage.write_bytes(s3.location("x"), OBJECT)
    with pytest.raises(UserError, match="cannot be written") as told:
        storage.download(s3.location("x"), Path("/proc/nothing/x"))
    assert not isinstance(told.value, StoreTrouble)
