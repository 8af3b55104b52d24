"""The S3 server of the quickstart listens on loopback alone, keeps what it stored, and ends with its owner."""

import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from base import storage
from base.errors import UserError
from base.local_s3 import local_s3

ROOT = Path(__file__).parents[2]
OWNER = """
import sys, time
from base.local_s3 import local_s3
from base.errors import run_command
def main():
    with local_s3(sys.argv[1]) as server:
        print(server.pid, flush=True)
        time.sleep(60)
run_command(main)
"""


def test_every_port_is_on_loopback(s3_server):
    listening = [c for c in psutil.Process(s3_server.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_port_gives_or_takes_an_object_without_credentials(s3, method):
    """Neither S3's own port nor those behind it, which know the bucket as a folder."""
    storage.write_bytes(s3.location("planted"), b"planted")
    listening = [c for c in psutil.Process(s3.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    refused = 0
    for connection in listening:
        for path in (s3.bucket, f"{s3.bucket}/planted", f"buckets/{s3.bucket}/planted"):
            request = urllib.request.Request(f"http://127.0.0.1:{connection.laddr.port}/{path}", method=method)
            with pytest.raises(OSError) as error:  # gRPC's ports speak no HTTP
                urllib.request.urlopen(request, timeout=10)
            refused += getattr(error.value, "code", None) in (401, 403)
    assert refused >= 6
    assert storage.read_bytes(s3.location("planted")) == b"planted"


def test_its_keys_are_in_files_of_the_owner_alone_and_not_in_its_log(tmp_path):
    with local_s3(tmp_path) as server:
        secret = server.environment["AWS_SECRET_ACCESS_KEY"]
    keys = [tmp_path / "identities.json", tmp_path / "security.toml"]
    assert [file.stat().st_mode & 0o777 for file in keys] == [0o600, 0o600]
    assert secret in keys[0].read_text() and secret not in (tmp_path / "server.log").read_text()


def test_two_servers_do_not_disturb_each_other(s3_server, tmp_path):
    with local_s3(tmp_path) as other:
        assert other.endpoint != s3_server.endpoint


def test_a_folder_is_served_once_and_its_path_may_be_long_and_have_spaces(tmp_path):
    folder = tmp_path / "a folder" / ("long" * 40)
    with local_s3(folder), pytest.raises(UserError, match="runs there already"), local_s3(folder):
        pass
    with local_s3(folder):
        pass


def test_what_was_stored_is_there_again_after_a_restart(tmp_path, monkeypatch):
    for action in ("write", "read"):
        with local_s3(tmp_path) as server:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            storage._client.cache_clear()
            if action == "write":
                storage.write_bytes(server.location("x"), b"kept")
            else:
                assert storage.read_bytes(server.location("x")) == b"kept"
    storage._client.cache_clear()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_its_owner_however_that_ends(tmp_path, how):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    server = psutil.Process(int(owner.stdout.readline()))
    owner.send_signal(how)
    owner.wait(timeout=30)
    deadline = time.monotonic() + 20
    while server.is_running() and server.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_a_port_in_use_is_a_clear_error_with_the_end_of_the_log(tmp_path, monkeypatch):
    import socket

    from base import local_s3 as module

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(module, "_free_ports", lambda number: [taken.getsockname()[1]] * number)
        with pytest.raises(UserError, match=r"did not start.*server\.log"), local_s3(tmp_path):
            pass
