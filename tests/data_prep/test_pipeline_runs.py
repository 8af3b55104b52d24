"""Whole runs: the same bytes for any number of workers and after any kill; only what changed is done again."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import BOTH, SMALL, YAML, content, documents, ledger, prepare

from base.errors import UserError
from data_prep import pipeline
from data_prep.shards.doc_ids import SCHEMA


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of an uninterrupted run with one worker."""
    out = tmp_path_factory.mktemp("whole")
    prepare("sample", out, *BOTH)
    return out


def launch(out: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "data_prep", YAML, "pubmed=sample", f"out={out}", *SMALL, *BOTH, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def there(folder: Path, pattern: str) -> int:
    """How many files are there now; none where a run moves a folder away while we look."""
    try:
        return len(list(folder.glob(pattern)))
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (("none", "pmc-oa"), r"pubmed=.*none: no such file or folder"),
        (("empty", "pmc-oa"), r"pubmed=.*empty: holds no \.xml"),
        (("ncbi", "none"), r"pmc=.*none: no such file or folder"),
    ],
)
def test_a_wrong_folder_is_told_before_anything_is_fetched(tmp_path: Path, places: tuple[str, str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    pubmed, pmc = (place if place in ("ncbi", "pmc-oa") else f"{tmp_path / place}" for place in places)
    nowhere = ("download.pubmed.urls=[http://127.0.0.1:9/baseline/]", "download.pmc.endpoint=http://127.0.0.1:9")
    with pytest.raises(UserError, match=said):
        prepare(pubmed, tmp_path / "out", f"pmc={pmc}", *nowhere)


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
    assert len(index["shards"]) >= 3 and set(index["shards"][0]["raw_data"]["hashes"]) == {"sha1", "xxh64"}


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_each_packing_is_sound_when_read_back(whole: Path, tmp_path: Path, packing: str) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    prepare("sample", tmp_path, *BOTH, f"shards.packing={packing}")  # verify is one of the stages
    splits = json.loads((tmp_path / "mds" / "card.json").read_text())["splits"]
    rows = pq.read_table(tmp_path / "mds" / "train" / "doc_ids.parquet").to_pylist()
    covered = sum(row["tokens"] for row in rows) - splits["train"]["tail_tokens"]
    assert covered + splits["train"]["padding_tokens"] == splits["train"]["tokens"]
    assert (splits["train"]["padding_tokens"] > 0) == (packing == "best_fit")


def test_documents_can_be_traced_to_their_sequences(whole: Path) -> None:
    rows = [
        row
        for split in ("train", "val")
        for row in pq.read_table(whole / "mds" / split / "doc_ids.parquet").to_pylist()
    ]
    assert sorted(row["id"] for row in rows) == sorted(documents(whole))
    assert all(0 <= row["offset"] < 64 and row["tokens"] > 1 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), ("shards.packing=best_fit", "shards.compression=zstd")])
def test_output_bytes_do_not_depend_on_the_number_of_workers(
    whole: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    shutil.copytree(whole, tmp_path / "one")
    prepare("sample", tmp_path / "one", *BOTH, *settings)
    prepare("sample", tmp_path / "two", *BOTH, "executor.workers=2", *settings)
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.slow
def test_killed_run_ends_with_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    moments: list[Callable[[], bool]] = [
        lambda: there(tmp_path, "work/download/*/*.gz") > 0,
        lambda: there(tmp_path, "work/parsed/pubmed/*.json") > 0,
        lambda: there(tmp_path, "work/parsed/pmc/*.json") > 0,
        lambda: there(tmp_path, "work/judged-*/*") > 0,
        lambda: there(tmp_path, "work/judged-*/*.npz") > 4,
        lambda: there(tmp_path, ".documents.building/*.parquet") > 0,
        lambda: (tmp_path / "ledger.json").exists(),
        lambda: there(tmp_path, "tokenizer/*") > 0,
        lambda: there(tmp_path, "work/shards-*/*") > 0,
        lambda: (tmp_path / "mds").exists(),
    ]
    kills = 0
    for moment in moments:
        run = launch(tmp_path, "executor.workers=2")
        while run.poll() is None and not moment():
            time.sleep(0.001)
        kills += run.poll() is None
        run.kill()
        run.wait()
    assert kills >= 7
    run = launch(tmp_path)
    assert run.communicate()[1] and run.returncode == 0
    assert content(tmp_path) == content(whole)


@pytest.mark.slow
def test_shards_killed_again_and_again_end_with_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    settings = ("shards.packing=best_fit", "shards.compression=zstd", "sample.citations=450")
    prepare("sample", tmp_path / "whole", *BOTH, *settings)
    out = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole", out)
    shutil.rmtree(out / "mds")

    def written() -> int:
        return there(out, "work/shards-*/*/shard.*.json")

    moments: list[Callable[[], bool]] = [
        lambda: there(out, "work/shards-*/train/*.npy") > 0,
        lambda: there(out, "work/shards-*/*/*.gathered") > 0,
        lambda: written() >= 1,
        lambda: there(out, "work/shards-*/*/.shard.*.part") > 0 and written() >= 3,
        lambda: written() >= 6,
        lambda: there(out, ".mds.building/*") > 0,
        lambda: there(out, ".mds.building/*/shard*") > 0,
    ]
    kills = 0
    for moment in moments:
        run = launch(out, "executor.workers=2", *settings)
        while run.poll() is None and not moment():
            time.sleep(0.001)
        kills += run.poll() is None
        run.kill()
        run.wait()
    run = launch(out, *settings)
    assert run.communicate()[1] and run.returncode == 0 and kills >= 5
    assert content(out) == content(tmp_path / "whole")


def test_only_what_a_change_touches_is_done_again(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare("sample", tmp_path, *BOTH)
    capfd.readouterr()

    def done_before(*arguments: str) -> set[str]:
        prepare("sample", tmp_path, *BOTH, *arguments)
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


def test_another_report_on_the_tokenizer_takes_no_training_and_no_shards(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    prepare("sample", tmp_path, *BOTH)
    before = content(tmp_path)
    capfd.readouterr()
    prepare("sample", tmp_path, *BOTH, "tokenizer.curve=[300,500]")
    said = capfd.readouterr().err
    assert "tokenizer: trained before" in said and "shards: done before" in said and "card: done before" not in said
    after = content(tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"tokenizer/report.json", "tokenizer/report.md", "card.html", "card.md", "card.json"}
    prepare("sample", tmp_path, *BOTH, "tokenizer.curve=[700]")  # larger than what was trained
    said = capfd.readouterr().err
    assert "trained before" not in said and "shards: done before" in said
    prepare("sample", tmp_path, *BOTH)
    assert "trained before" in capfd.readouterr().err
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("package", "stage"),
    [("lxml", "parse"), ("py3langid", "parse"), ("rensa", "select"), ("tokenizers", "tokenizer")],
)
def test_another_release_of_what_decides_the_bytes_does_the_stage_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, stage: str
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    prepare("sample", tmp_path, *BOTH, stage)  # done before
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "99" if name == package else installed(name))
    stages = list(pipeline.STAGES)
    with pytest.raises(UserError, match=f"needs {stage}, which has not been done"):
        prepare("sample", tmp_path, *BOTH, stages[stages.index(stage) + 1])


def test_compressed_shards_hold_the_same_sequences(whole: Path, tmp_path: Path) -> None:
    prepare("sample", tmp_path, *BOTH, "shards.compression=zstd", "shards.hashes=[sha256]")
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
        ("duplicates.json", "dropped as exact, but the ledger"),
        ("contamination.json", "dropped by benchmark, but the ledger 0 in all"),
        ("documents/left.parquet.part", "does not belong there"),
        ("mds/val/shard.00009.mds", "does not belong there"),
        ("mds/card.json", "not JSON"),
    ],
)
def test_verify_finds_damage_and_the_next_run_mends_it(whole: Path, tmp_path: Path, file: str, fault: str) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    place = tmp_path / file
    data = bytearray(place.read_bytes() if place.exists() else b"left over")
    if file.endswith("index.json"):
        data = bytearray(data.replace(b'"samples": ', b'"samples": 1'))
    elif file == "ledger.json":
        data = bytearray(data.replace(b'"title_only": ', b'"title_only": 9'))
    elif file == "duplicates.json":
        data = bytearray(data.replace(b'"dropped": ', b'"dropped": 9'))
    elif file == "contamination.json":  # there was none
        data = bytearray(b'{"by_benchmark": {"medqa": {"documents_dropped": 3}}}')
    elif file.endswith("card.json"):
        data = data[:-5]
    elif file.endswith("tokenizer.json"):
        data += b" "
    elif len(data) > 100:
        data[-1] ^= 1
    place.write_bytes(data)
    with pytest.raises(UserError, match=fault):
        prepare("sample", tmp_path, *BOTH, "verify")
    prepare("sample", tmp_path, *BOTH)
    assert content(tmp_path) == content(whole)


def test_what_a_kill_left_half_written_is_gone_and_what_others_put_there_stays(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    left = [tmp_path / ".ledger.json.x1y2.part", tmp_path / ".mds.building", tmp_path / ".card.html.z3.part"]
    for place in left:
        place.mkdir() if place.suffix == ".building" else place.write_text("half")
    for stage in ("select", "shards", "card"):  # as they are when a run was killed in them
        (tmp_path / "work" / "done" / f"{stage}.json").unlink()
    (tmp_path / "README.md").write_text("Ours.")
    prepare("sample", tmp_path)
    assert not any(place.exists() for place in left)
    assert (tmp_path / "README.md").read_text() == "Ours."


def _doc_ids(out: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    path = out / "mds" / "train" / "doc_ids.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda rows: rows[3].update(id="pmid:999999999"), "1 of .* documents are not there, 1 of its"),
        (lambda rows: rows.pop(3), "1 of .* documents are not there, 0 of its"),
        (lambda rows: rows[3].update(id=rows[4]["id"]), "does not decode|are not there"),
        (lambda rows: rows[3].update(tokens=rows[3]["tokens"] - 2), "does not end where doc_ids says"),
        (lambda rows: rows[3].update(tokens=rows[3]["tokens"] + 2), "overlap in doc_ids"),
    ],
)
def test_verify_compares_doc_ids_with_documents_and_shards(
    whole: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], fault: str
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    _doc_ids(tmp_path, change)
    with pytest.raises(UserError, match=fault):
        prepare("sample", tmp_path, *BOTH, "verify")


def test_verify_compares_each_source_file_with_the_ledger(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    ledger_there = ledger(tmp_path)
    (first, one), (second, other) = list(ledger_there["files"].items())[:2]
    for entry, change in ((one, 1), (other, -1)):  # the total stays
        entry["kept"] += change
        entry["in"] += change
    (tmp_path / "ledger.json").write_text(json.dumps(ledger_there))
    with pytest.raises(UserError, match=rf"(?s)documents of {first}, but the ledger kept.*{second}"):
        prepare("sample", tmp_path, *BOTH, "verify")


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    import fcntl

    (tmp_path / "work").mkdir()
    with open(tmp_path / "work" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run"):
            prepare("sample", tmp_path, *BOTH)


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
