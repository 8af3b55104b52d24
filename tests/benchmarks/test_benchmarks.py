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
