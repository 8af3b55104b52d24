"""A small model, small data in the real formats, and the real launcher."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_data import HELD_OUT, LENGTH, SEQUENCES
from small_runs import WARM, Run, make_run

from data_prep.tokenizer.training import train, write_tokenizer


@pytest.fixture(scope="session", autouse=True)
def no_launcher_is_left():
    yield
    WARM.close()


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer and packed sequences, as data_prep writes them."""
    from streaming import MDSWriter

    folder = tmp_path_factory.mktemp("packed")
    tokenizer = train(iter([["the dose was given to the patient and the dose was low"] * 20]), 300, 2)
    (folder / "tokenizer").mkdir()
    write_tokenizer(tokenizer, folder / "tokenizer", LENGTH)
    random = np.random.default_rng(0)
    columns = {"tokens": f"ndarray:uint16:{LENGTH}"}
    for split, sequences in (("train", SEQUENCES), ("val", HELD_OUT)):
        with MDSWriter(out=str(folder / "mds" / split), columns=columns, hashes=["sha1"], size_limit=1024) as writer:
            for _ in range(sequences):
                start = random.integers(tokenizer.get_vocab_size())
                tokens = (start + 3 * np.arange(LENGTH)) % tokenizer.get_vocab_size()
                writer.write({"tokens": tokens.astype(np.uint16)})
    return folder


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of so many bytes, as tmpfs writes them (``300k``), for as long as the test lasts."""
    mounted: list[Path] = []

    def small_disk(size: str) -> Path:
        folder = tmp_path / f"disk-{size}"
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
            pytest.skip("a small file system can be mounted by root alone, and not everywhere")
        mounted.append(folder)
        return folder

    yield small_disk
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def new_run(tmp_path: Path, packed: Path):
    def new_run(name: str, **changes: Any) -> Run:
        return make_run(tmp_path, packed, name, changes)

    return new_run


@pytest.fixture
def multipliers(new_run):
    """Composer's multiplier after each batch of a run; 4 sequences of 64 tokens a batch, 12 batches an epoch."""
    from composer.core import Time, Timestamp

    from recipes.build import build_scheduler
    from recipes.schema import Training

    runs = iter(range(100))

    def multipliers(scheduler: dict[str, Any], max_duration: str, batches: int) -> list[float]:
        run = new_run(f"schedule{next(runs)}", scheduler=scheduler, max_duration=max_duration)
        schedule = build_scheduler(Training.model_validate_json((run.folder / "run.yaml").read_text()))
        state: Any = SimpleNamespace(max_duration=Time.from_timestring(max_duration), dataloader_len=Time(12, "ba"))
        values = []
        for batch in range(batches + 1):
            state.timestamp = Timestamp(
                epoch=batch // 12, batch=batch, batch_in_epoch=batch % 12, sample=4 * batch, token=256 * batch
            )
            values.append(schedule(state))
        return values

    return multipliers
