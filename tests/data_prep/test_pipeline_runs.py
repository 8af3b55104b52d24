"""Whole runs: the same bytes for any number of workers and after any kill; only what changed is done again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made import SMALL, YAML, content, documents, ledger, prepare

from base.errors import UserError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of an uninterrupted run with one worker."""
    out = tmp_path_factory.mktemp("whole")
    prepare("sample", out)
    return out


def launch(out: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "data_prep", YAML, "pubmed=sample", f"out={out}", *SMALL, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_the_result_is_what_training_reads(whole: Path) -> None:
    from streaming import StreamingDataset

    card = json.loads((whole / "mds" / "card.json").read_text())
    assert card["eos_id"] == card["vocab_size"] - 1 == 599 and card["documents"] == ledger(whole)["total"]["kept"]
    for split in ("train", "val"):
        dataset = StreamingDataset(local=str(whole / "mds"), split=split, batch_size=1)
        sequences = [dataset[index]["tokens"] for index in range(len(dataset))]
        assert len(sequences) == card["splits"][split]["sequences"] > 0
        assert all(one.dtype == np.uint16 and one.shape == (64,) and one.max() <= 599 for one in sequences)
    index = json.loads((whole / "mds" / "train" / "index.json").read_text())
    assert len(index["shards"]) == 3 and set(index["shards"][0]["raw_data"]["hashes"]) == {"sha1", "xxh64"}


def test_documents_can_be_traced_to_their_sequences(whole: Path) -> None:
    rows = [
        row
        for split in ("train", "val")
        for row in pq.read_table(whole / "mds" / split / "doc_ids.parquet").to_pylist()
    ]
    assert sorted(row["id"] for row in rows) == sorted(documents(whole))
    assert all(0 <= row["offset"] < 64 and row["tokens"] > 1 for row in rows)


@pytest.mark.slow
def test_output_bytes_do_not_depend_on_the_number_of_workers(whole: Path, tmp_path: Path) -> None:
    prepare("sample", tmp_path, "executor.workers=2")
    assert content(tmp_path) == content(whole)


@pytest.mark.slow
def test_killed_run_ends_with_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    kills = 0
    for stage in ("parse …", "select …", "tokenizer …", "shards …"):
        run = launch(tmp_path, "executor.workers=2")
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith(stage):
                time.sleep(0.03)
                run.send_signal(signal.SIGKILL)
                kills += 1
                break
        run.wait()
    assert kills >= 3
    run = launch(tmp_path)
    assert run.communicate()[1] and run.returncode == 0
    assert content(tmp_path) == content(whole)


def test_only_what_a_change_touches_is_done_again(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare("sample", tmp_path)
    capfd.readouterr()

    def done_before(*arguments: str) -> set[str]:
        prepare("sample", tmp_path, *arguments)
        return {line.split(":")[0] for line in capfd.readouterr().err.splitlines() if line.endswith("done before")}

    assert done_before() == {"download", "parse", "select", "tokenizer", "shards", "card"}
    assert done_before("shards.packing=concat") == {"download", "parse", "select", "tokenizer"}
    card = json.loads((tmp_path / "mds" / "card.json").read_text())
    assert card["packing"] == "concat" and card["documents"] == ledger(tmp_path)["total"]["kept"]
    assert done_before("parse.pubmed.labels=drop") == {"download"}
    assert not any("BACKGROUND: " in row["text"] for row in documents(tmp_path).values())
    assert done_before("executor.workers=2", "parse.pubmed.labels=drop") == {
        "download",
        "parse",
        "select",
        "tokenizer",
        "shards",
        "card",
    }
    (tmp_path / "ledger.json").unlink()
    assert done_before("parse.pubmed.labels=drop") >= {"download", "parse"}
    assert done_before() == {"download"}
    assert content(tmp_path) == content(whole)


def test_compressed_shards_hold_the_same_sequences(whole: Path, tmp_path: Path) -> None:
    prepare("sample", tmp_path, "shards.compression=zstd", "shards.hashes=[sha256]")
    assert list((tmp_path / "mds" / "train").glob("*.mds.zstd")) and not list((tmp_path / "mds").rglob("*.mds"))
    assert (tmp_path / "mds" / "card.json").read_bytes() == (whole / "mds" / "card.json").read_bytes()


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        ("documents/00001-pubmed26n0001.parquet", "do not fit their sha256|cannot be read as Parquet"),
        ("mds/train/shard.00001.mds", "its sha1 is not the one in the index"),
        ("mds/train/index.json", "but the index says"),
        ("tokenizer/tokenizer.json", "not the one that made the shards"),
        ("ledger.json", "do not add up"),
        ("documents/left.parquet.part", "does not belong there"),
        ("mds/val/shard.00009.mds", "does not belong there"),
    ],
)
def test_verify_finds_damage_and_the_next_run_mends_it(whole: Path, tmp_path: Path, file: str, fault: str) -> None:
    import shutil

    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    place = tmp_path / file
    data = bytearray(place.read_bytes() if place.exists() else b"left over")
    if file.endswith("index.json"):
        data = bytearray(data.replace(b'"samples": ', b'"samples": 1'))
    elif file == "ledger.json":
        data = bytearray(data.replace(b'"title_only": ', b'"title_only": 9'))
    elif file.endswith("tokenizer.json"):
        data += b" "
    elif len(data) > 100:
        data[-1] ^= 1
    place.write_bytes(data)
    with pytest.raises(UserError, match=fault):
        prepare("sample", tmp_path, "verify")
    prepare("sample", tmp_path)
    assert content(tmp_path) == content(whole)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "work").mkdir()
    with open(tmp_path / "work" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run"):
            prepare("sample", tmp_path)


def test_help_is_instant() -> None:
    start = time.monotonic()
    run = subprocess.run([sys.executable, "-m", "data_prep", "--help"], capture_output=True, text=True)
    assert run.returncode == 0 and "shards" in run.stdout and time.monotonic() - start < 1


def test_parsing_does_not_import_what_is_slow() -> None:
    program = (
        "import sys, data_prep.pipeline; print({'torch', 'streaming', 'transformers', 'composer'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    assert run.stdout.strip() == "set()", run.stderr
