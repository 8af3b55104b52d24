"""What a run needs of a machine is looked at before it is used: by --check, by the check of the nodes, by the run."""

import json
from pathlib import Path

import pytest

from recipes.findings import Findings
from recipes.preflight import preflight
from recipes.run_sheet import run_sheet
from recipes.schema import Training
from recipes.this_machine import STATE_BYTES, troubles

ROOT = Path(__file__).parents[2]


def config(run, **changes) -> Training:
    return Training.model_validate({**json.loads((run.folder / "run.yaml").read_text()), **changes})


@pytest.fixture
def least(monkeypatch):
    """The bytes that must be free: with one less the machine is not fit."""

    def least(wanted: Training, found: Findings, nodes: int = 1, resumes: bool = False, spare: float = 0) -> int:
        def fits(free: int) -> bool:
            with monkeypatch.context() as patched:
                patched.setattr("base.storage.free_bytes", lambda path: free if str(path) != "/dev/shm" else 1 << 40)
                return troubles(wanted, found, nodes, resumes, spare) == []

        low, high = -1, 1 << 40  # does not fit, fits
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high

    return least


def test_shards_and_checkpoints_on_one_disk_must_fit_together(new_run, least):
    wanted = config(new_run("run"))
    found = preflight(wanted, 1, False)
    assert found.model is not None
    shards, checkpoint = found.shards["train_loader.dataset"].bytes, STATE_BYTES * found.model.n_parameters
    assert least(wanted, found) == shards + checkpoint
    assert least(wanted, found, resumes=True) == shards + 2 * checkpoint
    assert least(wanted, found, nodes=4, resumes=True, spare=1000) == shards + 1.25 * checkpoint + 1000
    assert least(config(new_run("without"), save_folder=None, autoresume=False), found) == shards

    cache = Path(wanted.train_loader.dataset.local or "")
    cache.mkdir()
    (cache / "shard.00000.mds").write_bytes(bytes(shards - 100))
    assert least(wanted, found) == checkpoint + 100
    staging = Path(wanted.run_folder) / "staging"
    staging.mkdir(parents=True)
    (staging / "left").write_bytes(bytes(2 * checkpoint))  # by a killed run; it goes before the next is written
    assert least(wanted, found) == 100


def test_a_cache_limit_bounds_what_the_shards_take(new_run, least):
    run = new_run("run")
    loader = config(run).train_loader.model_dump()
    without = least(config(run), preflight(config(run), 1, False))
    size = preflight(config(run), 1, False).shards["train_loader.dataset"].bytes
    for limit, saved in (("1gb", 0), ("7000b", size - 7000)):
        loader["dataset"]["cache_limit"] = limit
        wanted = config(run, train_loader=loader)
        assert least(wanted, preflight(wanted, 1, False)) == without - saved


def test_folders_that_cannot_be_made_are_told(new_run):
    run = new_run("run")
    (run.folder / "file").write_text("")
    told = troubles(config(run, run_folder=str(run.folder / "file" / "run")), Findings(), 1, True)
    assert len(told) == 1 and f"{run.folder / 'file'} is no folder that can be written to" in told[0]


def test_shared_memory_that_does_not_hold_the_order_of_an_epoch_is_told(new_run, monkeypatch):
    wanted = config(new_run("run"))
    assert troubles(wanted, Findings(samples=50), 1, False) == []
    (told,) = troubles(wanted, Findings(samples=10**15), 1, False)
    assert "/dev/shm: " in told and "--shm-size" in told


def test_memory_that_does_not_hold_the_copy_of_a_save_is_told(new_run, monkeypatch, tmp_path):
    wanted = config(new_run("run"))
    found = preflight(wanted, 1, False)
    assert found.model is not None
    limit, copy = tmp_path / "memory.max", STATE_BYTES * found.model.n_parameters
    monkeypatch.setattr("recipes.this_machine.MEMORY_LIMITS", (limit, tmp_path / "of the other version"))
    for content, nodes, told in (
        ("max", 1, False),
        (copy, 1, False),
        (copy - 1, 1, True),
        (copy - 1, 2, False),
        (copy // 3, 2, True),
    ):
        limit.write_text(f"{content}\n")
        assert any("memory: " in trouble for trouble in troubles(wanted, found, nodes, False)) == told
    assert troubles(config(new_run("without"), save_folder=None, autoresume=False), found, 2, False) == []


def test_the_run_sheet_tells_what_this_machine_lacks(new_run, monkeypatch):
    monkeypatch.setattr("base.storage.free_bytes", lambda path: 0)
    wanted = config(new_run("run"))
    found = preflight(wanted, 1, probe_writing=True)
    assert found.faults == [] and "on this machine, " in run_sheet(wanted, found, 1)
    assert not any("on this machine" in warning for warning in preflight(wanted, 1, probe_writing=False).warnings)
