"""What several test folders share: the real data when it is there, and a real S3 server."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is tested here runs on the CPU, two ranks on any machine
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: its threads wait for each other on few cores

from collections.abc import Iterator
from pathlib import Path

import pytest

from base.local_s3 import LocalS3, local_s3

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files (``BIOMEDLM_TEST_DATA``, by default ``../shared/data``); skips without it."""
    folder = Path(os.environ.get("BIOMEDLM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set BIOMEDLM_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """One real S3 server for the whole test session."""
    with local_s3(tmp_path_factory.mktemp("s3"), bucket="test") as server:
        yield server


@pytest.fixture
def s3(s3_server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> LocalS3:
    """The S3 server, with this process's environment set so that it is used."""
    from base import storage

    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    storage._client.cache_clear()
    return s3_server
