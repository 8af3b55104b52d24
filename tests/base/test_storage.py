"""Local files and a real S3 server behave alike; errors say what to do; nothing half-written is left."""

import errno
import os
import subprocess
from pathlib import Path

import pytest

from base import storage
from base.errors import NotThere, UserError


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "folder")
    return request.getfixturevalue("s3").location(tmp_path.name)


def test_what_is_written_is_read_back_and_listed(folder):
    storage.write_bytes(storage.join(folder, "a", "b.bin"), b"1234")
    assert storage.read_bytes(storage.join(folder, "a", "b.bin")) == b"1234"
    assert storage.list_files(folder) == {"a/b.bin": 4}
    assert storage.size(storage.join(folder, "a", "b.bin")) == 4
    assert not storage.exists(storage.join(folder, "a"))


def test_upload_and_download_keep_the_bytes(folder, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_000_000))
    storage.upload(source, storage.join(folder, "x"))
    storage.download(storage.join(folder, "x"), tmp_path / "back")
    assert storage.sha256(tmp_path / "back") == storage.sha256(source)


def test_deleting_what_is_not_there_is_no_error(folder):
    storage.delete(storage.join(folder, "nothing"))
    storage.write_bytes(storage.join(folder, "x"), b"")
    storage.delete(storage.join(folder, "x"))
    assert storage.list_files(folder) == {}


def test_a_missing_file_is_said_to_be_missing(folder):
    with pytest.raises(NotThere, match="nothing"):
        storage.read_bytes(storage.join(folder, "nothing"))
    with pytest.raises(NotThere):
        storage.download(storage.join(folder, "nothing"), "/tmp/never")


def test_the_write_probe_leaves_nothing(folder):
    storage.require_writable(folder)
    assert storage.list_files(folder) == {}


def test_a_wrong_secret_key_is_named_without_being_shown(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    storage._client.cache_clear()
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY") as error:
        storage.write_bytes(s3.location("x"), b"")
    assert "planted-secret" not in str(error.value)
    storage._client.cache_clear()


def test_an_unknown_access_key_and_a_missing_bucket_are_told_apart(s3, monkeypatch):
    with pytest.raises(NotThere, match="no such bucket"):
        storage.list_files("s3://no-such-bucket/x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "unknown")
    storage._client.cache_clear()
    with pytest.raises(UserError, match="AWS_ACCESS_KEY_ID"):
        storage.read_bytes(s3.location("x"))
    storage._client.cache_clear()


def test_an_endpoint_that_does_not_answer_is_named(s3, monkeypatch):
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")
    storage._client.cache_clear()
    with pytest.raises(NotThere, match=r"127\.0\.0\.1:9"):
        storage.list_files("s3://bucket/x")
    storage._client.cache_clear()


def test_other_schemes_are_refused():
    with pytest.raises(UserError, match="gs://"):
        storage.exists("gs://bucket/x")


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), storage.write_aside(target) as aside:
        aside.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_of_reading_is_not_told_as_one_of_writing(tmp_path):
    with pytest.raises(FileNotFoundError), storage.write_aside(tmp_path / "file") as aside:
        aside.write_bytes((tmp_path / "nothing").read_bytes())
    with (
        pytest.raises(UserError, match=r"file: cannot be written: No space left"),
        storage.write_aside(tmp_path / "file"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x: cannot be written: File exists"):
        storage.write_bytes(str(tmp_path / "file" / "x"), b"")


def test_listing_passes_over_what_goes_away_meanwhile(tmp_path, monkeypatch):
    (tmp_path / "there").write_text("1234")
    (tmp_path / ".gone.part").write_text("")
    look = Path.stat

    def moved_into_place(path: Path, **options: bool) -> os.stat_result:
        if path.name == ".gone.part":
            path.unlink()
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", moved_into_place)
    assert storage.list_files(str(tmp_path)) == {"there": 4}


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system can be mounted by root alone")
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(UserError, match=r"No space left.*GB free"):
            storage.write_bytes(str(small / "file"), b"x" * 2_000_000)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_what_killed_uploads_have_left_of_large_files_is_dropped_below_the_folder_alone(s3):
    folder, beside = s3.location("runs", "killed"), s3.location("runs", "killed-too")
    client = storage._client()
    for place in (folder, folder, beside):
        key = storage.join(place, "ep0-ba1", "__0_0.distcp").removeprefix(f"s3://{s3.bucket}/")
        upload = client.create_multipart_upload(Bucket=s3.bucket, Key=key)["UploadId"]
        client.upload_part(Bucket=s3.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"half of it")
    assert storage.abort_uploads(folder) == 2
    left = client.list_multipart_uploads(Bucket=s3.bucket, Prefix="runs/").get("Uploads", [])
    assert [upload["Key"].split("/")[1] for upload in left] == ["killed-too"]
    assert storage.abort_uploads(folder) == 0 and storage.abort_uploads("/tmp") == 0
