"""make says what it lacks, and never deletes an environment that it did not make."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("")
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # `make test VENV=…` hands its variables on to every make below it; these here must begin without them.
    bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=bare)


@pytest.mark.parametrize("target", ["unit", "clean"])
def test_an_environment_that_make_did_not_make_is_left_alone(folder, target):
    result = make(folder, target, "VENV=mine")
    assert result.returncode == 2 and "VENV=mine" in result.stdout
    assert (folder / "mine" / "file").exists()


def test_an_environment_whose_making_was_stopped_is_made_anew(folder):
    assert make(folder, "unit", "VENV=new", "PYTHON=false").returncode == 2  # stopped at `python -m venv`
    assert "not made by this Makefile" not in make(folder, "unit", "VENV=new", "PYTHON=false").stdout
    assert make(folder, "clean", "VENV=new").returncode == 0
    assert not (folder / "new").exists()


def test_a_machine_without_python_3_11_is_told_so(folder):
    result = make(folder, "unit", "PYTHON=")
    assert result.returncode == 2 and "no Python 3.11" in result.stdout
    assert not (folder / ".venv").exists()
