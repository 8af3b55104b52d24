"""The short form of `python -m benchmarks chaos`: a few kills before a faulty store, and nothing is lost or doubled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_run_that_is_killed_before_a_faulty_store_is_the_run_that_was_left_alone():
    command = ["-m", "benchmarks", "chaos", "--kills", "4", "--batches", "160", "--faults", "0.1"]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=900, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout.splitlines()[-1])["figures"]
    assert figures["kills"] == len(figures["moments"]) == 4 and figures["faults"] >= 10
    assert figures["weights_equal"] and figures["losses_equal"] and figures["batches_equal"]
    assert figures["batches"] == 160 and figures["samples_due"] == 640
    assert figures["samples_lost"] == figures["samples_doubled"] == figures["trained_otherwise_meanwhile"] == 0
    assert figures["shards_intact"] and figures["checkpoints_verified"] >= 4
    assert figures["batches_again"] > 0 or all(kill["kind"] == "launcher" for kill in figures["moments"])
