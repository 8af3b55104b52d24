"""Secrets that a run is given are in nothing that it shows or stores, whether it ends well or not."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from base import storage
from recipes.report import write_run_report

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
VARIABLES = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "MLFLOW_TRACKING_USERNAME": "somebody",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "HF_TOKEN": "hf_planted0token",
    "AWS_SESSION_TOKEN": "planted-session",
    "PLACE_WITH_LOGIN": "https://somebody:planted-login@tracking.example",
}
IN_YAML = {
    "variables": {
        "hub": "${oc.env:HF_TOKEN}", "place": "${oc.env:PLACE_WITH_LOGIN}", "store": "${oc.env:AWS_SECRET_ACCESS_KEY}",
        "api_key": "planted-literal",
    },
}  # fmt: skip


def secrets(environment: dict[str, str]) -> list[str]:
    return [
        *(environment[name] for name in environment if re.search("KEY$|TOKEN|PASSWORD", name)),
        "planted",  # all others have it in them
    ]


@pytest.fixture
def planted(new_run, s3, tmp_path):
    """A run that is given secrets by the environment and through it by its YAML, with its checkpoints in S3."""
    loggers = {
        "tensorboard": {"flush_interval": 1},
        "wandb": {"project": "x"},
        "mlflow": {"experiment_name": "x", "tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    }
    run = new_run("tracked", loggers=loggers, max_duration="3ba", save_folder=s3.location("tracked"), **IN_YAML)
    environment = VARIABLES | s3.environment
    del environment["AWS_SESSION_TOKEN"]  # the server knows no sessions
    run.environment = environment | {"WANDB_MODE": "offline"}
    return run


def leaks(folder: Path, environment: dict[str, str]) -> list[str]:
    """Files below ``folder`` in which a secret stands, and which."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found += [f"{path}: {one}" for one in secrets(environment) if one.encode() in content]
    return found


def test_a_run_with_secrets_shows_none(planted, s3, tmp_path):
    yaml = planted.folder / "run.yaml"
    output = planted.train(2)
    check = subprocess.run(
        [sys.executable, "train.py", str(yaml), "--check"], cwd=ROOT, check=False,
        env=os_environment(planted.environment), capture_output=True, text=True,
    )  # fmt: skip
    assert check.returncode == 0, check.stdout + check.stderr
    yaml.unlink()  # one of them stands there, as it was written
    write_run_report(tmp_path / "report.html", planted.folder / "run")
    for name in storage.list_files(s3.location("tracked")):
        storage.download(s3.location("tracked", name), tmp_path / "bucket" / name)
    assert (tmp_path / "bucket" / "ep0-ba3" / "manifest.json").exists()
    (tmp_path / "output").write_text(output + check.stdout + check.stderr)
    assert leaks(tmp_path, planted.environment) == []
    resolved = (planted.folder / "run" / "config.yaml").read_text()
    assert "hub: '***'" in resolved and "place: https://***@tracking.example" in resolved
    assert "variables.hub" in (tmp_path / "mlflow.db").read_bytes().decode("latin1")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "planted-wrong-key"}, "check AWS_SECRET_ACCESS_KEY"),
        ({"S3_ENDPOINT_URL": "http://somebody:planted-login@127.0.0.1:9"}, "cannot be reached"),
        ({"AWS_SESSION_TOKEN": "planted-session"}, "tracked at"),
        ({"TRACKING": "http://somebody:planted-login@127.0.0.1:9"}, "127.0.0.1"),
        ({"TRACKING": "nonsense://somebody:planted-login@host"}, "nonsense"),
    ],
)
def test_a_run_that_fails_shows_none(planted, tmp_path, changes, told):
    run = planted
    yaml = json.loads((run.folder / "run.yaml").read_text())
    if "TRACKING" in changes:
        yaml["loggers"]["mlflow"]["tracking_uri"] = "${oc.env:TRACKING}"
        yaml |= {"save_folder": None, "autoresume": False}
    (run.folder / "run.yaml").write_text(json.dumps(yaml))
    run.environment |= changes | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "AWS_MAX_ATTEMPTS": "1"}
    process = run.start(2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0 and told in output, output
    (run.folder / "run.yaml").unlink()
    (tmp_path / "output").write_text(output)
    assert leaks(tmp_path, run.environment) == [], output


def os_environment(more: dict[str, str]) -> dict[str, str]:
    import os

    return os.environ | more
