"""Shards that were altered on their way, that stay wrong, or that a failing store does not give."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_data import LENGTH, SEQUENCES
from streaming import MDSWriter
from torch.utils.data import DataLoader

from base import object_store, storage
from base.errors import StoreTrouble, UserError
from base.local_s3 import LocalS3
from base.storage import free_bytes
from benchmarks.faulty_proxy import FaultyProxy, faulty_proxy
from recipes.packed_sequences import NoShard, NoShardForNow, PackedSequences
from recipes.shard_fetch import WholeShards, fetch_indexes, fetch_whole
from recipes.shard_ids import look_at_ids

ROOT = Path(__file__).parents[2]


def write(folder: Path, compression: str | None = None) -> None:
    columns = {"tokens": f"ndarray:uint16:{LENGTH}"}
    with MDSWriter(
        out=str(folder), columns=columns, compression=compression, hashes=["sha1", "xxh64"], size_limit=1024
    ) as writer:
        for number in range(SEQUENCES):
            writer.write({"tokens": np.full(LENGTH, number, dtype=np.uint16)})


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def samples(remote: str, local: Path, workers: int) -> list[int]:
    stream = WholeShards(remote=remote, local=str(local), split="train")
    fetch_indexes([stream])
    dataset = PackedSequences(SEQUENCES, streams=[stream], batch_size=2)
    batches = DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=list)
    return [int(sample["tokens"][0]) for batch in batches for sample in batch]


@pytest.fixture
def proxy(s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3.endpoint, rate=0.0, seed=1, stall_seconds=0.05) as proxy:
        monkeypatch.setenv("S3_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setattr(object_store, "LONGEST_PAUSE", 0.1)
        storage._client.cache_clear()
        yield proxy
        storage._client.cache_clear()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_shard_that_stays_wrong_is_named_and_never_in_the_cache(tmp_path, workers, compression):
    write(tmp_path / "remote" / "train", compression)
    assert samples(str(tmp_path / "remote"), tmp_path / "first", workers) == list(range(SEQUENCES))
    wrong = sorted((tmp_path / "remote" / "train").glob("shard*"))[3]
    spoil(wrong)
    with pytest.raises(NoShard) as error:
        samples(str(tmp_path / "remote"), tmp_path / "cache", workers)
    assert str(error.value).startswith(f"{wrong}: is not what index.json says of it, fetched 3 times")
    assert "\n" not in str(error.value) and not isinstance(error.value, StoreTrouble)
    there = {file.name for file in (tmp_path / "cache" / "train").iterdir()}
    assert wrong.name not in there and not any(name.endswith(".fetched") for name in there)
    wrong.unlink()
    with pytest.raises(NoShard, match=f"{wrong}: no such file"):
        samples(str(tmp_path / "remote"), tmp_path / "another", workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_below_the_cache_is_told_and_leaves_no_part_of_a_shard(tmp_path, small_disk, workers):
    write(tmp_path / "remote" / "train")
    disk = small_disk("40k")
    cache = disk / "cache"
    shutil.copytree(tmp_path / "remote" / "train", cache / "train", ignore=lambda _, names: names[:-2])
    (disk / "filler").write_bytes(bytes(free_bytes(disk) - 4096))
    with pytest.raises(NoShard, match=f"{cache}/train/shard.*No space left on device") as error:
        samples(str(tmp_path / "remote"), cache, workers)
    assert not isinstance(error.value, StoreTrouble)
    for file in (cache / "train").iterdir():
        if file.name.startswith("shard"):
            assert file.read_bytes() == (tmp_path / "remote" / "train" / file.name).read_bytes()


def test_a_shard_that_was_altered_on_its_way_is_fetched_again(s3, proxy, monkeypatch, tmp_path):
    """By a store that tells nothing of its objects: only the index's hash is left."""
    write(tmp_path / "train")
    entry = json.loads((tmp_path / "train" / "index.json").read_text())["shards"][0]["raw_data"]
    place = s3.location("altered", entry["basename"])
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    storage._client.cache_clear()
    storage.upload(tmp_path / "train" / entry["basename"], place)
    monkeypatch.setattr(storage, "require_same", lambda *_: None)
    fetched = storage.download
    proxy.kinds, proxy.rate = ("wrong",), 1.0

    def download(location: str, path: Path) -> None:
        fetched(location, path)
        proxy.rate = 0.0

    monkeypatch.setattr(storage, "download", download)
    fetch_whole(place, tmp_path / "shard", entry["bytes"], entry["hashes"])
    assert (tmp_path / "shard").read_bytes() == (tmp_path / "train" / entry["basename"]).read_bytes()
    assert proxy.counts["wrong"] == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_that_fails_for_long_is_told_as_such(s3, proxy, monkeypatch, tmp_path, workers):
    write(tmp_path / "train")
    for file in (tmp_path / "train").iterdir():
        storage.upload(file, s3.location(f"down-{workers}", "train", file.name))
    stream = WholeShards(remote=s3.location(f"down-{workers}"), local=str(tmp_path / "cache"), split="train")
    fetch_indexes([stream])
    dataset = PackedSequences(SEQUENCES, streams=[stream], batch_size=2)
    monkeypatch.setattr(object_store, "PATIENCE", 0.0)
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    proxy.kinds, proxy.rate = ("503",), 1.0
    with pytest.raises(NoShardForNow, match=r"shard\.0000.*: 503: ") as error:
        list(DataLoader(dataset, batch_size=2, num_workers=workers, collate_fn=list))
    assert isinstance(error.value, StoreTrouble) and "\n" not in str(error.value)


def test_ids_that_only_the_way_has_made_wrong_do_not_refuse_a_run(s3, proxy, monkeypatch, tmp_path):
    """The beginning of a shard, of which no store tells a checksum."""
    from recipes import shard_ids

    monkeypatch.setattr(shard_ids, "HEAD", 500)
    write(tmp_path / "train")
    shards = json.loads((tmp_path / "train" / "index.json").read_text())["shards"]
    for file in (tmp_path / "train").iterdir():
        storage.upload(file, s3.location("ids", file.name))
    proxy.kinds, proxy.rate = ("wrong",), 0.5
    for _ in range(3):
        assert look_at_ids(s3.location("ids"), shards, SEQUENCES) == "the beginning of every shard"
    assert proxy.counts["wrong"] > 10
    with pytest.raises(UserError, match=r"holds the id [34]\d"):
        look_at_ids(s3.location("ids"), shards, 30)


@pytest.mark.slow
def test_a_shard_that_stays_wrong_ends_both_ranks_with_one_message(new_run):
    run = new_run("spoilt")
    shards = sorted((run.folder / "mds" / "train").glob("shard*"))
    for shard in shards[len(shards) // 2 :]:  # half of them: the preflight sees no difference
        data = bytearray(shard.read_bytes())
        data[-2] ^= 1
        shard.write_bytes(data)
    process = run.start(2, "train_loader.dataset.shuffle=false", "dist_timeout=300")
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 2, output
    assert output.count("error: ") == 1 and f"error: {run.folder}/mds/train/shard.0" in output
    assert "is not what index.json says of it, fetched 3 times" in output
    assert "Traceback" not in output
    assert not list(run.checkpoints.glob("ep*"))


def uploaded(run: Any, s3: LocalS3, name: str) -> None:
    """Have the run's data and checkpoints in the bucket; its YAML is changed accordingly."""
    for file in (run.folder / "mds").rglob("*"):
        if file.is_file():
            storage.upload(file, s3.location(name, "mds", str(file.relative_to(run.folder / "mds"))))
    content = json.loads((run.folder / "run.yaml").read_text())
    content["train_loader"]["dataset"]["remote"] = s3.location(name, "mds")
    for file in Path(content["tokenizer"]["name"]).iterdir():
        storage.upload(file, s3.location(name, "tokenizer", file.name))
    content["tokenizer"]["name"] = s3.location(name, "tokenizer")
    content["save_folder"] = s3.location(name, "checkpoints")
    content["eval_loader"] = {
        "dataset": {"remote": s3.location(name, "mds"), "local": str(run.folder / "held-out"), "split": "val"}
    }
    content["eval_interval"] = "10ba"
    (run.folder / "run.yaml").write_text(json.dumps(content))
    run.environment |= s3.environment


@pytest.mark.slow
def test_a_run_through_a_store_full_of_faults_has_the_losses_of_one_without_and_whole_checkpoints(new_run, s3):
    plain, faulty = new_run("plain"), new_run("faulty")
    uploaded(plain, s3, "plain")
    uploaded(faulty, s3, "faulty")
    plain.train(2)
    with faulty_proxy(s3.endpoint, rate=0.15, seed=7, stall_seconds=0.5) as proxy:
        faulty.environment["S3_ENDPOINT_URL"] = proxy.endpoint
        faulty.train(2)
        assert len(plain.losses()) == 20
        assert faulty.losses() == plain.losses()
        for checkpoint in ("ep1-ba15", "ep1-ba20"):
            storage.delete(s3.location("faulty", "checkpoints", checkpoint, "manifest.json"))
        shutil.rmtree(faulty.folder / "cache")  # as on another machine
        assert "resumed at batch 10" in faulty.train(2)
        assert faulty.losses() == plain.losses()
        environment = os.environ | faulty.environment
        for checkpoint in ("ep0-ba5", "ep0-ba10", "ep1-ba15", "ep1-ba20"):
            subprocess.run(
                [sys.executable, "-m", "model.checkpoint", "verify", s3.location("faulty", "checkpoints", checkpoint)],
                cwd=ROOT, env=environment, check=True,
            )  # fmt: skip
        kinds = [kind for kind in proxy.counts if kind != "requests"]
        assert len(kinds) >= 5 and sum(proxy.counts[kind] for kind in kinds) > 20, proxy.counts
