"""The S3 server of the quickstart listens on loopback alone, keeps what it stored, and ends with its owner."""

import signal
import subprocess
import sys
import time
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


def test_requests_without_credentials_are_refused(s3_server):
    import urllib.error
    import urllib.request

    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{s3_server.endpoint}/{s3_server.bucket}", timeout=10)


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
