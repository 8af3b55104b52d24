"""Benchmarks are listed and explained at once; what they measure is not asserted here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, RECORDS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in BENCHMARKS)])
def test_help_answers_without_torch(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was imported')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    for name in [arguments[0]] if arguments[1:] else BENCHMARKS:
        assert name in done.stdout


def test_each_record_names_its_command_versions_and_date() -> None:
    for path in RECORDS.glob("*.json"):
        record = json.loads(path.read_text())
        assert re.fullmatch(rf"{record['benchmark']}-{record['date']}(-\d+)?\.json", path.name)
        assert record["command"].startswith(f"python -m benchmarks {record['benchmark']}")
        assert record["versions"]["torch"] and record["figures"]


@pytest.mark.slow
def test_the_gpu_s_list_runs_at_a_small_size_and_ends_with_a_table() -> None:
    """A GPU is seldom at hand, and what fails there must not be the script."""
    names = {"ours all compiled", "nothing compiled GELU in parts", "transformers sdpa", "GELU in parts",
             "plain loss compiled", "optimizer foreach", "FP8 tensorwise dropout 0",
             "FULL_SHARD activation checkpointing"}  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "gpu", "--small", "--levers",
               "ours,GELU,sdpa,plain loss compiled,foreach,tensorwise dropout,checkpointing"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert "cut" not in figures and "stopped" not in figures
    assert figures["correct"]["passed"] and not figures["correct"]["failed"]
    assert figures["ceilings"]["copy_gb_per_second"] > 0
    first, last = figures["trainer"]["loss_first_and_last"]
    assert first > last
    levers = figures["levers"]
    assert names <= levers.keys()
    for name, lever in levers.items():
        assert 0 < lever["tokens_per_second_with_optimizer"] < lever["tokens_per_second"], name
        compiled = not name.startswith(("nothing", "transformers"))
        assert (lever["graphs"] > 0) == compiled, name
    assert levers["ours all compiled"]["graphs_after_warming"] == 0
    table = done.stderr.splitlines()[-len(levers) - 2 :]
    assert "MFU" in table[0]
    assert [line[:38].strip() for line in table[1:]] == ["train.py's Trainer", *levers]
