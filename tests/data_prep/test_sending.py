"""Finished files on their way to a real S3 server that stops, refuses, and comes back."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made import content, prepare

from base import object_store, storage
from base.errors import UserError
from base.local_s3 import LocalS3, local_s3
from data_prep.executors.local import LocalProcesses
from data_prep.schema import DataConfiguration
from data_prep.stage import Job, publish, unsent

FILES = 60


def use(server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    storage._client.cache_clear()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Files of 1 MiB that a stage has made, and an index."""
    local = tmp_path / "work" / "out"
    (local / "mds" / "train").mkdir(parents=True)
    for number in range(FILES):
        (local / "mds" / "train" / f"shard.{number:05d}.mds").write_bytes(os.urandom(1 << 20))
    (local / "mds" / "train" / "index.json").write_text("{}")
    configuration = DataConfiguration(pubmed="sample", out="s3://test/out", work=str(tmp_path / "work"))
    yield Job(configuration, tmp_path / "work", local, "s3://test/out", LocalProcesses(1))


@pytest.mark.slow
def test_a_server_killed_while_files_are_sent_is_told_and_the_next_run_sends_only_the_rest(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = job.work / "done" / "mds.sent.jsonl"
    monkeypatch.setattr(object_store, "PATIENCE", 1.0)  # it will not come back
    with local_s3(tmp_path / "s3", bucket="test") as server:
        use(server, monkeypatch)

        def kill_when_some_have_arrived() -> None:
            while not journal.exists() or len(journal.read_text().splitlines()) < 5:
                time.sleep(0.002)
            os.kill(server.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_when_some_have_arrived)
        killer.start()
        with pytest.raises(UserError, match=r"s3://test/out/mds/train/shard\.\d+\.mds at http"):
            publish(job, ("mds",))
        killer.join()
    arrived = len(journal.read_text().splitlines())
    assert 5 <= arrived < FILES
    with local_s3(tmp_path / "s3", bucket="test") as server:
        use(server, monkeypatch)
        assert not storage.exists("s3://test/out/mds/train/index.json")
        publish(job, ("mds",))
        assert len(journal.read_text().splitlines()) <= FILES + 1 + 8  # what was lost with the server comes again
        assert unsent(job, ("mds",)).missing == []
        for name, size in storage.list_files("s3://test/out").items():
            assert size == (job.local / name).stat().st_size
        assert (
            storage.read_bytes("s3://test/out/mds/train/shard.00000.mds")
            == (job.local / "mds" / "train" / "shard.00000.mds").read_bytes()
        )
    storage._client.cache_clear()


@pytest.mark.slow
def test_what_was_made_is_not_made_again_when_only_its_sending_failed(
    s3: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, work = s3.location("resent"), tmp_path / "work"
    prepare("sample", out, f"work={work}", "download", "parse", "select", "tokenizer")
    key = os.environ["AWS_SECRET_ACCESS_KEY"]
    real = storage.upload

    def credentials_expire(path: str | Path, location: str) -> None:
        if location.endswith("shard.00001.mds"):
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "expired")
            storage._client.cache_clear()
        real(path, location)

    monkeypatch.setattr(storage, "upload", credentials_expire)
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY"):
        prepare("sample", out, f"work={work}")
    monkeypatch.setattr(storage, "upload", real)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key)
    storage._client.cache_clear()
    assert not any(name.endswith("index.json") for name in storage.list_files(f"{out}/mds"))
    made = content(work / "out")
    times = {file: file.stat().st_mtime_ns for file in (work / "out" / "mds").rglob("*.mds")}
    capfd.readouterr()
    prepare("sample", out, f"work={work}")
    assert "shards, write" not in capfd.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in times} == times
    assert set(storage.list_files(out)) == set(content(work / "out")) >= set(made)
    shutil.rmtree(work)
