"""The training is one line on a terminal, whatever its width, and plain lines elsewhere."""

import io
import os
from types import SimpleNamespace
from typing import Any

import pytest

from recipes.callbacks.console import Console

METRICS = {
    "loss/train/total": 2.5,
    "lr-AdamW/group0": 1.6e-4,
    "l2_norm/grad/global": 0.8,
    "throughput/device/mfu": 0.46,
}


class Screen(io.StringIO):
    def __init__(self, terminal: bool):
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def at(batch: int) -> Any:
    value = SimpleNamespace(value=batch)
    return SimpleNamespace(timestamp=SimpleNamespace(batch=value, token=SimpleNamespace(value=batch * 1_048_576)))


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> str:
    screen = Screen(terminal)
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 24)))
    console = Console(286_103, 286_103 * 1_048_576, 2, one_line=True)
    console.fit_start(at(0), None)  # type: ignore[arg-type]
    console.log_metrics(METRICS)
    for batch in (1, 2, 3, 286_103):
        console.batch_end(at(batch), None)  # type: ignore[arg-type]
    return screen.getvalue()


def test_on_a_terminal_one_line_is_rewritten_and_never_wraps(monkeypatch):
    lines = shown(monkeypatch, terminal=True).split("\r\x1b[2K")[1:]
    assert len(lines) == 4 and max(map(len, lines[:-1])) < 60
    assert "".join(lines).count("\n") == 1 and lines[-1].endswith("\n")


def test_without_a_terminal_there_is_a_line_each_interval_and_at_the_end(monkeypatch):
    lines = shown(monkeypatch, terminal=False).splitlines()
    assert [line.split()[1].split("/")[0] for line in lines] == ["2", "286103"]
    assert all(part in lines[0] for part in ("loss 2.5000", "lr 0.00016", "norm 0.8", "MFU 0.46", "tok/s", "left"))


def test_memory_loader_wait_and_a_slow_rank_are_shown_when_they_are_known(monkeypatch):
    watched = {"memory/peak_reserved_mem": 71.23, "time/loader_wait": 9.0, "time/loader_wait_max": 0.0021,
               "time/step_alone_median": 1.0, "time/step_alone_max": 1.25, "time/slowest_rank": 93}  # fmt: skip
    monkeypatch.setitem(globals(), "METRICS", METRICS | watched)
    line = shown(monkeypatch, terminal=False).splitlines()[0]
    assert "71.2 GB  loader 2.1 ms  rank 93 is 25 % slower" in line
    monkeypatch.setitem(globals(), "METRICS", METRICS | {"time/step_alone_max": 1.04})
    assert "slower" not in shown(monkeypatch, terminal=False)


def test_the_time_left_is_that_of_the_tokens_left_for_not_all_batches_are_alike(monkeypatch):
    """After 20 of 34 batches and 3 of 9 tokens, in 60 seconds."""
    seconds = iter((1000.0, 1060.0))
    monkeypatch.setattr("time.monotonic", lambda: next(seconds))
    monkeypatch.setattr("sys.stderr", Screen(terminal=False))
    console = Console(34, 9 * 1_048_576, 1, one_line=False)
    console.fit_start(at(0), None)  # type: ignore[arg-type]
    assert console._line(20, 3 * 1_048_576).endswith("2m00s left")
