"""lm-eval in a process and an environment of its own, which takes orders until it is left."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from base.errors import UserError
from base.progress import say

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
QUIET = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}


def environment(given: str | None) -> Path:
    """The Python of an environment with lm-eval: the one given, or one made in the user's cache on first use.

    Raises:
        UserError: the one given has no lm-eval.
    """
    if given is not None:
        python = Path(given) / "bin" / "python"
        if not python.exists() or not list(Path(given).glob("lib/python3*/site-packages/lm_eval")):
            raise UserError(f"--env {given}: no environment with lm-eval; leave it out to have one made")
        return python
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "biomedlm-recipe" / f"lm-eval-{wanted}"
    python, whole = folder / "bin" / "python", folder / "whole"
    if not whole.exists():
        say(f"making lm-eval's environment in {folder}: 6.1 GB on disk, which takes minutes")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], stdout=sys.stderr, check=True)
        pip: list[Path | str] = [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            REQUIREMENTS,
        ]
        subprocess.run(pip, stdout=sys.stderr, check=True)
        whole.touch()
    return python


def versions(python: Path) -> dict[str, str]:
    """Of what computes there."""
    names = ("lm_eval", "torch", "transformers", "tokenizers", "datasets")
    code = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {names}}}))"
    return json.loads(subprocess.run([python, "-c", code], stdout=subprocess.PIPE, check=True).stdout)


class Referee:
    """One model in lm-eval, in fp32 on one thread of the CPU, as a context manager. inside.py says what orders are."""

    def __init__(self, python: Path, model: Path, attention: str, folder: Path):
        self.command = [str(python), str(HERE / "inside.py"), str(model.resolve()), attention]
        self.log = folder / "lm_eval.log"
        self.cache = tempfile.TemporaryDirectory(prefix="lm-eval-")

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self.command, env=os.environ | QUIET | {"HF_HOME": self.cache.name}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"),
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.cache.cleanup()

    def order(
        self, tasks: list[dict[str, Any]], batch_size: int, out: Path | None = None, documents: int | None = None
    ) -> dict[str, Any]:
        """Have tasks scored; returns ``cpu_seconds`` and ``left_out``.

        Raises:
            RuntimeError: lm-eval has ended; the message holds the end of what it printed.
        """
        assert self.process.stdin and self.process.stdout
        order = {"tasks": tasks, "batch_size": batch_size, "out": out and str(out), "documents": documents}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"lm-eval has ended with code {self.process.wait()}: {self.log.read_text()[-3000:]}")
        return json.loads(answer)
