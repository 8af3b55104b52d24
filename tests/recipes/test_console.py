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
    "throughput/device/tokens_per_sec": 31_686.0,
    "throughput/device/mfu": 0.462,
    "time/step": 16.5,
    "time/remaining_estimate": 49.5,
}
UNIT = "hours"


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
    monkeypatch.setattr("shutil.get_terminal_size", lambda fallback=(80, 24): os.terminal_size((60, 24)))
    console = Console(286_103, 2, one_line=True)
    console.log_hyperparameters({"time/remaining_estimate_unit": UNIT})
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
    assert lines[0] == (
        "batch 2/286103 (0 %)  2d01h left  2.1M tokens  loss 2.5000  lr 0.00016  norm 0.8  31.7k tok/s/rank  "
        "MFU 46.2 %  step 16.5 s"
    )


def test_time_left_is_read_in_the_unit_in_which_it_is_logged(monkeypatch):
    monkeypatch.setitem(globals(), "UNIT", "minutes")
    assert "49m30s left" in shown(monkeypatch, terminal=False)


def test_what_no_callback_has_logged_is_not_shown(monkeypatch):
    monkeypatch.setitem(globals(), "METRICS", {"loss/train/total": 2.5})  # the first batches, on a CPU
    assert shown(monkeypatch, terminal=False).splitlines()[0] == "batch 2/286103 (0 %)  2.1M tokens  loss 2.5000"


def test_memory_loader_wait_and_a_slow_rank_are_shown_when_they_are_known(monkeypatch):
    watched = {"memory/peak_reserved_mem": 71.23, "time/loader_wait": 9.0, "time/loader_wait_max": 0.0021,
               "time/step_alone_median": 1.0, "time/step_alone_max": 1.25, "time/slowest_rank": 93}  # fmt: skip
    monkeypatch.setitem(globals(), "METRICS", METRICS | watched)
    line = shown(monkeypatch, terminal=False).splitlines()[0]
    assert "71.2 GB  loader 2.1 ms  rank 93 is 25 % slower" in line
    monkeypatch.setitem(globals(), "METRICS", METRICS | {"time/step_alone_max": 1.04})
    assert "slower" not in shown(monkeypatch, terminal=False)
