"""Models come from a hub by their name: a real server with the hub's layout, real requests of its own client."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPTNeoConfig, GPTNeoForCausalLM, PreTrainedTokenizerFast

from eval.sample_questions import write_sample_questions

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """``/api/models/OWNER/NAME…`` lists the files of a folder, ``/OWNER/NAME/resolve/COMMIT/FILE`` gives one."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        type(self).asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "api" and (self.folder / "/".join(parts[2:4])).is_dir():
            model = self.folder / "/".join(parts[2:4])
            files = {str(path.relative_to(model)): path for path in sorted(model.rglob("*")) if path.is_file()}
            tree = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": COMMIT}
                for name, path in files.items()
            ]
            siblings = [{"rfilename": name} for name in files]
            about: Any = {"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings}
            body = json.dumps(tree if "tree" in parts else about).encode()
            return self._send(200, body, {"Content-Type": "application/json"}, with_body)
        file = self.folder.joinpath(*parts[:2], *parts[4:])
        if len(parts) > 4 and parts[2] == "resolve" and file.is_file():
            body = file.read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            return self._send(200, body, headers, with_body)
        return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)

    def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Not on the console."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, list[str]]]:
    """Its address, the folder with the questions, and what it has been asked for; it has ``tests/neo``."""
    folder = tmp_path_factory.mktemp("hub")
    write_sample_questions(str(folder / "qa"), n=20, seed=3)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train([str(path) for path in (folder / "qa").rglob("*.json*")], trainer)
    place = folder / "tests" / "neo"
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(place)
    torch.manual_seed(1)
    shape = GPTNeoConfig(
        vocab_size=400, hidden_size=16, num_layers=2, num_heads=2, attention_types=[[["global", "local"], 1]],
        max_position_embeddings=256, window_size=32,
    )  # fmt: skip
    model = GPTNeoForCausalLM(shape)
    model.save_pretrained(place, safe_serialization=False)  # as GPT-Neo and BioMedLM are on the hub
    (place / "onnx").mkdir()
    (place / "onnx" / "model.bin").write_bytes(b"another format")
    handler = type("OfFolder", (Hub,), {"folder": folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder, handler.asked  # type: ignore[attr-defined]
    server.shutdown()


def evaluate(hub: str, folder: Path, home: Path, model: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = [f"data={folder}/qa", f"out={home}/out", "limit=5"]
    return subprocess.run(
        [sys.executable, "evaluate.py", "yamls/eval/qa.yaml", f"model={model}", *settings], cwd=ROOT, text=True,
        env={**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True, timeout=180, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_model_of_the_hub_is_scored_by_its_name_and_again_without_the_hub(
    hub: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    address, folder, asked = hub
    done = evaluate(address, folder, tmp_path, "tests/neo")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "tests-neo.json").read_text())
    assert "GPTNeoForCausalLM" in record["computed_by"]
    assert record["scores"]["medqa"]["scored"] == 5
    assert not any("onnx/" in path for path in asked)
    again = evaluate("http://127.0.0.1:9", folder, tmp_path, "tests/neo", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "out" / "tests-neo.json").read_text())["scores"] == record["scores"]


@pytest.mark.slow
def test_a_name_that_the_hub_does_not_know_is_named(hub: tuple[str, Path, list[str]], tmp_path: Path) -> None:
    address, folder, _ = hub
    for place, model in ((address, "tests/nothing"), ("http://127.0.0.1:9", "tests/neo")):
        done = evaluate(place, folder, tmp_path, model)
        assert done.returncode == 2
        assert f"model: {model}: neither a folder here nor a model that the hub gives" in done.stderr
