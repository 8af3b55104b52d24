"""Input and output in a bucket, on a real S3 server."""

import json
from pathlib import Path

import pytest
from made import SMALL, YAML, content, prepare

from base import storage
from base.errors import UserError
from base.local_s3 import LocalS3
from data_prep import pipeline
from data_prep.download.sample import write_sample
from data_prep.schema import Sample
from data_prep.tokenizer.training import train, write_tokenizer


def fetched(location: str) -> dict[str, bytes]:
    return {name: storage.read_bytes(storage.join(location, name)) for name in storage.list_files(location)}


@pytest.mark.slow
def test_a_bucket_gives_and_takes_the_same_bytes_as_a_folder(s3: LocalS3, tmp_path: Path) -> None:
    write_sample(tmp_path / "in", Sample(citations=150))
    for file in (tmp_path / "in").iterdir():
        storage.upload(file, s3.location("in", file.name))
    prepare(tmp_path / "in", tmp_path / "out")
    out = s3.location("prepared")
    storage.write_bytes(storage.join(out, "mds", "train", "shard.00077.mds"), b"of an earlier run")
    prepare(s3.location("in"), out, f"work={tmp_path / 'work'}")
    there = fetched(out)
    assert set(there) == set(content(tmp_path / "out"))
    assert all((tmp_path / "out" / name).read_bytes() == data for name, data in there.items())

    storage.delete(storage.join(out, "mds", "train", "shard.00000.mds"))
    prepare(s3.location("in"), out, f"work={tmp_path / 'work'}")
    assert fetched(out) == there
    prepare(s3.location("in"), out, f"work={tmp_path / 'other'}")  # another machine, with nothing of the first
    assert fetched(out) == there
    prepare(s3.location("in/medline*.gz"), out, f"work={tmp_path / 'work'}", "shards.val_fraction=0.1")
    assert set(json.loads(fetched(out)["ledger.json"])["files"]) == {"medline16n0001.xml.gz"}


@pytest.mark.slow
def test_the_same_documents_with_a_ready_tokenizer_take_another_place_and_no_other_preparation(
    s3: LocalS3, tmp_path: Path
) -> None:
    trained, ready = s3.location("pair/data"), s3.location("pair/data-ready")
    work = f"work={tmp_path / 'work'}"
    prepare("sample", trained, work)
    before = fetched(trained)
    selected = (tmp_path / "work" / "done" / "select.json").stat().st_mtime_ns
    (tmp_path / "tokenizer").mkdir()
    write_tokenizer(train(iter([["the dose was low"] * 20]), 270, 2), tmp_path / "tokenizer", 64)
    given = f"tokenizer={{name: {tmp_path / 'tokenizer'}}}"
    settings = [one for one in SMALL if not one.startswith("tokenizer.")]
    pipeline.run(YAML, ["pubmed=sample", f"out={ready}", work, *settings, given])
    assert (tmp_path / "work" / "done" / "select.json").stat().st_mtime_ns == selected
    assert fetched(trained) == before
    other = fetched(ready)
    same = {name for name in before if other[name] == before[name]}
    assert {name for name in before if name.startswith(("documents/", "dropped/", "ledger"))} <= same
    prepare("sample", trained, work)
    assert fetched(trained) == before


def test_a_wrong_key_is_told_before_anything_is_done(
    s3: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    storage._client.cache_clear()
    with pytest.raises(UserError, match="AWS_SECRET_ACCESS_KEY"):
        prepare("sample", s3.location("x"), f"work={tmp_path}")
    storage._client.cache_clear()
    assert not (tmp_path / "download").exists()
