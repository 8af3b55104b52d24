"""What a step costs is measured where it arises, and garbage is collected when all ranks do it."""

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recipes.callbacks.metrics_log import MetricsLog
from recipes.callbacks.scheduled_gc import WARM_UP, ScheduledGC

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_rank_with_the_slow_loader_is_named_and_each_rank_has_its_own_wait(tmp_path):
    script = str(Path(__file__).with_name("slow_rank.py"))
    subprocess.run(
        [sys.executable, "-m", "composer.cli.launcher", "-n", "2", script, tmp_path],
        check=True, cwd=ROOT, timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    quick, slow = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [batch for batch, _ in quick["time/loader_wait_max"]] == [4, 8, 12]
    for seen in (quick, slow):  # gathered: the same on both
        assert all(rank == 1 for _, rank in seen["time/slowest_rank"])
        assert all(rank == 1 for _, rank in seen["time/loader_wait_rank"])
        assert all(wait > 0.07 for _, wait in seen["time/loader_wait_max"])
        # The step is as long on both, though only one of them is slow.
        assert all(step > 0.07 for _, step in seen["time/step"])
    assert all(wait < 0.04 for _, wait in quick["time/loader_wait"])
    assert all(wait > 0.07 for _, wait in slow["time/loader_wait"])
    for (_, middle), (_, largest) in zip(quick["time/step_alone_median"], quick["time/step_alone_max"], strict=True):
        assert largest - middle > 0.03  # of two ranks the median lies in the middle


def test_a_loader_notes_the_wait_of_each_batch_and_nothing_that_others_did_meanwhile():
    from recipes.batch_size import BatchSizes
    from recipes.train_loader import TrainLoader

    class Rows:
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> dict[str, list[int]]:
            time.sleep(0.05 if index == 2 else 0)
            return {"input_ids": [index]}

    loader = TrainLoader(BatchSizes(1), 4, Rows(), batch_size=1, collate_fn=lambda rows: rows[0])
    waits = []
    for _ in loader:
        waits.append(loader.waited)
        time.sleep(0.03)  # the step
    assert len(waits) == 4 and loader.num_samples_yielded == 4
    assert waits[2] >= 0.05 and max(waits[0], waits[1], waits[3]) < 0.03


def at(batch: int) -> Any:
    return SimpleNamespace(timestamp=SimpleNamespace(batch=SimpleNamespace(value=batch)))


def test_garbage_is_collected_after_the_warm_up_and_at_the_interval_alone(monkeypatch):
    logged: list[dict[str, float]] = []
    logger: Any = SimpleNamespace(log_metrics=logged.append)
    collections: list[int] = []
    batch = 0
    monkeypatch.setattr(gc, "collect", lambda: collections.append(batch))
    frozen = gc.get_freeze_count()
    callback = ScheduledGC(batch_interval=5)
    callback.fit_start(at(101), logger)
    try:
        assert not gc.isenabled()
        for batch in range(102, 117):  # resumed at 101: the interval is that of the whole run, on every rank
            callback.batch_end(at(batch), logger)
        assert gc.get_freeze_count() > frozen
    finally:
        callback.fit_end(at(116), logger)
    assert collections == [101 + WARM_UP, 105, 110, 115]
    assert len(logged) == 4 and all(set(one) == {"time/gc"} for one in logged)
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_the_log_keeps_times_that_tell_something_and_leaves_out_positions(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.log_metrics(
        {"time/batch": 4, "time/token_in_epoch": 9, "time/loader_wait": 0.5, "time/remaining_estimate": 2.0}
    )
    assert log.pending == {"time/loader_wait": 0.5, "time/remaining_estimate": 2.0}
