"""Every command of the README works, in its order, in a fresh copy of the repository; so the whole recipe does too.

On the real PubMed and question files when they are there, on generated ones otherwise.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CALLED_BY_US = "make test"


def commands(language: str) -> list[str]:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's own files, with this environment as its .venv."""
    folder = tmp_path_factory.mktemp("fresh") / "repository"
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def run(folder: Path, command: str) -> str:
    inside = f". .venv/bin/activate && {command}"
    result = subprocess.run(
        ["bash", "-c", inside], cwd=folder, capture_output=True, text=True, timeout=1500,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, f"$ {command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.slow
def test_every_command_of_the_readme_works(copy, request):
    data = Path(os.environ.get("BIOMEDLM_TEST_DATA", ROOT.parent / "shared" / "data"))
    real = data.is_dir()
    places = f'--source "{data}/pubmed" --qa "{data}/qa" --gpt2 "{data}/tokenizers/gpt2"' if real else "--source sample"
    listed = commands("sh")
    assert listed[0] == "make quickstart" and CALLED_BY_US in listed
    for command in listed:
        if command == "make quickstart":  # what make runs, without making the environment again
            recipe = subprocess.run(["make", "-n", "quickstart"], cwd=copy, capture_output=True, text=True).stdout
            assert "-m recipes.quickstart" in recipe
            run(copy, f"python -m recipes.quickstart {places}")
        elif command != CALLED_BY_US:
            run(copy, command)
    check_summary(copy / "runs" / "quickstart", real)


def check_summary(out: Path, real: bool) -> None:
    summary = json.loads((out / "summary.json").read_text())
    assert summary["resume"]["bit_identical"] is True
    assert summary["resume"]["resumed_at_batch"] < summary["resume"]["killed_at_batch"]
    assert summary["loss_last"] < summary["loss_first"] - 1
    assert summary["export"]["max_logit_difference"] < 1e-4
    assert summary["peak_memory_bytes"] < 8e9
    if real:
        assert (summary["records_in"], summary["documents"]) == (1664, 1192)
    for score in summary["scores"].values():
        assert score["ci95"][0] <= score["acc"] <= score["ci95"][1]
        assert 0 < score["majority"] < 1 and score["n"] > 0
    assert set(summary["scores"]) == {"medqa", "medmcqa"}
    report = (out / "report.html").read_text()
    assert report.count("<svg") >= 4
    assert not re.search(r"""(src|href)=["']https?://""", report)  # self-contained


def test_the_export_says_which_transformers_versions_ignore_the_scaling():
    assert "4.42" in README and "5.3" in README and 'attn_implementation="eager"' in README


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))])
def test_every_relative_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("command", commands("sh-gpu"))
def test_the_commands_for_gpus_pass_the_check(command):
    """Without the launcher and its arguments: ``python train.py … --check``."""
    variables, _, rest = command.partition("composer")
    arguments = rest[rest.index("train.py") :]
    result = subprocess.run(
        ["bash", "-c", f"{variables} {sys.executable} {arguments} --check"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "2,594,247,680" in result.stdout
