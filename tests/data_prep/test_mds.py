"""Shards are what Streaming's own writer writes, and what its own reader reads."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from data_prep.shards.mds import COLUMN, encode_shard, encoding, stored
from data_prep.shards.reading import Damaged, read_shard

HASHES = ("md5", "sha1", "sha256", "xxh128", "xxh64")


def some_ids(samples: int, length: int) -> NDArray[np.uint16]:
    random = np.random.default_rng(samples * 7919 + length)
    return (random.integers(0, 1 << 16, (samples, length)) % random.integers(1, 1 << 16, (samples, 1))).astype(
        np.uint16
    )


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize(
    ("samples", "length", "hashes", "size_limit"),
    [
        (1, 1, HASHES, 1 << 16),
        (1, 1024, ("sha1", "xxh64"), 1 << 26),
        (7, 8, (), 1 << 20),
        (300, 2, ("xxh128",), 1 << 16),
        (31, 1000, HASHES, 65_536),
        (1500, 1024, HASHES, 1 << 26),
        (3, 65_536, ("md5", "sha256"), 4_000_000_000),
    ],
)
def test_file_and_entry_are_those_of_streamings_writer(
    tmp_path: Path, samples: int, length: int, hashes: tuple[str, ...], size_limit: int, compression: str | None
) -> None:
    from streaming import MDSWriter

    sequences = some_ids(samples, length)
    with MDSWriter(
        out=str(tmp_path), columns={COLUMN: encoding(length)}, compression=compression, hashes=list(hashes),
        size_limit=size_limit,
    ) as writer:  # fmt: skip
        for sequence in sequences:
            writer.write({COLUMN: sequence})
    (expected,) = json.loads((tmp_path / "index.json").read_text())["shards"]

    data, entry = encode_shard(sequences, 0, size_limit, hashes, compression)
    assert entry == expected
    assert json.dumps(entry, sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert data == (tmp_path / stored(entry)["basename"]).read_bytes()


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_streamings_readers_give_back_the_sequences(tmp_path: Path, compression: str | None) -> None:
    from streaming import LocalDataset
    from streaming.base.compression import decompress

    shards = [some_ids(samples, 64) for samples in (40, 3)]
    entries = []
    for number, sequences in enumerate(shards):
        data, entry = encode_shard(sequences, number, 1 << 20, ("sha1",), compression)
        (tmp_path / stored(entry)["basename"]).write_bytes(data)
        (tmp_path / entry["raw_data"]["basename"]).write_bytes(decompress(compression, data))  # LocalDataset wants it
        entries.append(entry)
        read = read_shard(str(tmp_path / stored(entry)["basename"]), entry, 64, tmp_path)
        assert read.dtype == np.uint16 and np.array_equal(read, sequences)
    (tmp_path / "index.json").write_text(json.dumps({"version": 2, "shards": entries}))
    dataset = LocalDataset(str(tmp_path))
    assert np.array_equal([dataset[index][COLUMN] for index in range(len(dataset))], np.concatenate(shards))


def test_the_number_of_a_shard_is_in_its_name_alone() -> None:
    first, entry = encode_shard(some_ids(5, 16), 0, 1 << 16, ("sha1",), "zstd")
    later, other = encode_shard(some_ids(5, 16), 1234, 1 << 16, ("sha1",), "zstd")
    assert first == later and stored(other)["basename"] == "shard.01234.mds.zstd"
    assert stored(entry)["hashes"] == stored(other)["hashes"]


@pytest.mark.parametrize("damage", ["cut", "changed", "longer"])
def test_a_damaged_shard_is_told(tmp_path: Path, damage: str) -> None:
    data, entry = encode_shard(some_ids(9, 32), 0, 1 << 16, ("sha1", "xxh64"), None)
    changed = {"cut": data[:-1], "changed": data[:-1] + bytes([data[-1] ^ 1]), "longer": data + b"\0"}[damage]
    (tmp_path / "shard").write_bytes(changed)
    with pytest.raises(Damaged, match="index"):
        read_shard(str(tmp_path / "shard"), entry, 32, tmp_path)


def test_neither_writing_nor_reading_imports_the_package_streaming() -> None:
    program = (
        "import sys, pathlib, tempfile, numpy as np\n"
        "from data_prep.shards.mds import encode_shard\n"
        "from data_prep.shards.reading import read_shard\n"
        "path = pathlib.Path(tempfile.mkdtemp(), 'shard')\n"
        "data, entry = encode_shard(np.zeros((3, 8), np.uint16), 0, 1 << 16, ('sha1', 'xxh64'), 'zstd')\n"
        "path.write_bytes(data)\n"
        "assert not read_shard(str(path), entry, 8, path.parent).any()\n"
        "assert not {'streaming', 'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
