"""A secret is not shown, by whatever way it is known for one; what only looks like one is."""

import subprocess
import sys
from pathlib import Path

import pytest

from base.errors import UserError
from base.masking import masked, names_secret, without_secrets
from base.progress import say

ROOT = Path(__file__).parents[2]
SECRET = (
    "password", "PGPASSWORD", "apiKey", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY", "api_key", "apikey", "HF_TOKEN",
    "hf-token", "token", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "X-Amz-Credential",
    "client.secret", "loggers.x.auth_token", "private_key", "Authorization",
)  # fmt: skip
NO_SECRET = (
    "tokenizer", "tokenizer.name", "max_tokens", "tokens", "tok", "eos_token", "pad_token", "token_in_epoch",
    "TOKENIZERS_PARALLELISM", "key", "keys", "access", "seed", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_DEFAULT_REGION",
    "credentials_secret", "PWD", "OLDPWD", "passes", "monkey", "", "_",
)  # fmt: skip


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "planted-by-name")
    monkeypatch.setenv("LONGER_SECRET", "planted-by-name-and-more")
    monkeypatch.setenv("SHORT_TOKEN", "train")
    monkeypatch.setenv("RUN_NAME", "innocent-value")


@pytest.mark.parametrize("name", SECRET)
def test_names_of_secrets(name):
    assert names_secret(name)


@pytest.mark.parametrize("name", NO_SECRET)
def test_names_of_no_secrets(name):
    assert not names_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:planted@host:80/x?y=1 failed", "https://***@host:80/x?y=1 failed"),
        ("'postgresql://u:pl@nted@host/db'", "'postgresql://***@host/db'"),
        ("https://host/x?api_key=planted&size=3", "https://host/x?api_key=***&size=3"),
        ("argument loggers.x.password=planted: no", "argument loggers.x.password=*** no"),
        ("{'token': 'planted', 'tokens': '3'}", "{'token': '***', 'tokens': '3'}"),
        ("got planted-by-name-and-more, planted-by-name.", "got ***, ***."),
        ("variables.token=${oc.env:HF_TOKEN}", "variables.token=${oc.env:HF_TOKEN}"),
        ("train innocent-value", "train innocent-value"),
        ("s3://bucket/a@b/c max_tokens=3 tokenizer=x", "s3://bucket/a@b/c max_tokens=3 tokenizer=x"),
        ("loggers.wandb.token: unknown key; known here: name", "loggers.wandb.token: unknown key; known here: name"),
    ],
)
def test_text(text, shown):
    assert without_secrets(text) == shown
    assert str(UserError(text)) == shown


def test_configurations_keep_their_form():
    tree = {
        "variables": {"token": "planted", "api_key": 12345, "password": None, "secret": {"a": ["planted-by-name"]}},
        "tokenizer": {"name": "x"}, "uris": ["http://u:planted@h", 3], "token": True,
    }  # fmt: skip
    shown = {
        "variables": {"token": "***", "api_key": "***", "password": None, "secret": {"a": ["***"]}},
        "tokenizer": {"name": "x"}, "uris": ["http://***@h", 3], "token": True,
    }  # fmt: skip
    assert masked(tree) == shown


def test_a_line_of_status(capsys):
    say("fetched http://u:planted@host")
    assert capsys.readouterr().err == "fetched http://***@host\n"


@pytest.mark.parametrize("error", ["PartlyRefused", "StartAgain", "RuntimeError", "UserError"])
def test_the_end_of_a_command_shows_none(error):
    code = f"""
from base.errors import *
def main():
    try:
        raise OSError("planted-by-name")
    except OSError as cause:
        raise {error}("http://u:planted@host and planted-by-name") from cause
run_command(main)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode in (1, 2, 75) and "http://***@host and ***" in ended.stderr
    # of a traceback, the line of the program itself is its own text
    assert [line for line in ended.stderr.splitlines() if "planted" in line and "raise" not in line] == []
