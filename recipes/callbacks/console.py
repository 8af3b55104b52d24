"""The training as one line that a person can read; a plain log line each interval when there is no terminal."""

import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from composer import Logger, State
from composer.loggers import LoggerDestination
from composer.utils import dist

from base.progress import count, duration, say

SLOW = 1.05  # times the median


class Console(LoggerDestination):
    """Time left, tokens, loss, learning rate, gradient norm, speed, MFU, memory, loader wait and a slow rank.

    On rank 0's standard error, the most wanted first, for a terminal may cut the line. All values are those that the
    callbacks log, so they agree with the other loggers'; what no callback logs (yet) is left out.

    Args:
        total_batches: length of the run, or None when it is not known.
        interval: batches between two log lines where there is no terminal, or ``one_line`` is off.
        one_line: on a terminal, rewrite one line instead of adding lines.
    """

    def __init__(self, total_batches: int | None, interval: int, one_line: bool):
        self.total, self.interval = total_batches, interval
        self.rewrite = one_line and sys.stderr.isatty()
        self.latest: dict[str, Any] = {}
        self.scores: dict[str, Any] = {}
        self.validation: dict[str, Any] = {}
        self.unit = "hours"  # of the time that is left

    def log_hyperparameters(self, hyperparameters: dict[str, Any]) -> None:
        self.unit = hyperparameters.get("time/remaining_estimate_unit", self.unit)

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.latest.update(metrics)
        self.scores.update({name: value for name, value in metrics.items() if name.startswith("eval/")})
        self.validation.update({name: value for name, value in metrics.items() if name.startswith("metrics/")})

    def fit_start(self, state: State, logger: Logger) -> None:
        batch = state.timestamp.batch.value
        if batch and dist.get_global_rank() == 0:
            say(f"resumed at batch {batch}")

    def batch_end(self, state: State, logger: Logger) -> None:
        batch = state.timestamp.batch.value
        last = batch == self.total
        if dist.get_global_rank() != 0 or not (self.rewrite or last or batch % self.interval == 0):
            return
        line = self._line(batch, state.timestamp.token.value)
        if self.rewrite:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps cannot be rewritten
            sys.stderr.write(f"\r\x1b[2K{line[:width]}" + ("\n" if last else ""))
            sys.stderr.flush()
        else:
            say(line)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._say_scores(state)

    def fit_end(self, state: State, logger: Logger) -> None:
        self._say_scores(state)

    def eval_after_all(self, state: State, logger: Logger) -> None:
        values, self.validation = self.validation, {}
        parts = [
            f"{label} {float(value):.4f}"
            for ending, label in (
                ("CrossEntropy", "loss"),
                ("Perplexity", "perplexity"),
                ("BitsPerByte", "bits a byte"),
            )
            for name, value in values.items()
            if name.endswith(ending)
        ]
        self._say_found("validation", parts, state)

    def _say_scores(self, state: State) -> None:
        scores, self.scores = self.scores, {}
        accuracies = [f"{name.split('/')[1]} {value:.3f}" for name, value in scores.items() if name.endswith("/acc")]
        self._say_found("scores", accuracies, state)

    def _say_found(self, what: str, parts: list[str], state: State) -> None:
        if parts and dist.get_global_rank() == 0:
            begin = "\n" if self.rewrite else ""
            say(f"{begin}{what} at batch {state.timestamp.batch.value}: {', '.join(parts)}")

    def _line(self, batch: int, token: int) -> str:
        of_total = f"/{self.total} ({100 * batch / self.total:.0f} %)" if self.total else ""
        parts = [f"batch {batch}{of_total}", *self._time_left(), f"{count(token)} tokens"]
        parts += self._shown("loss/train/total", lambda value: f"loss {value:.4f}")
        rate = next((name for name in self.latest if name.startswith("lr-")), "")
        parts += self._shown(rate, lambda value: f"lr {value:.3g}")
        parts += self._shown("l2_norm/grad/global", lambda value: f"norm {value:.3g}")
        parts += self._shown("throughput/device/tokens_per_sec", lambda value: f"{count(value)} tok/s/rank")
        parts += self._shown("throughput/device/mfu", lambda value: f"MFU {100 * value:.1f} %")
        parts += self._shown("time/step", lambda value: f"step {value:.3g} s")
        parts += self._shown("memory/peak_reserved_mem", lambda value: f"{value:.1f} GB")
        worst = "time/loader_wait_max" if "time/loader_wait_max" in self.latest else "time/loader_wait"
        parts += self._shown(worst, lambda value: f"loader {1000 * value:.1f} ms")
        return "  ".join([*parts, *self._slow_rank()])

    def _shown(self, name: str, form: Callable[[float], str]) -> Iterator[str]:
        if name in self.latest:
            yield form(float(self.latest[name]))

    def _time_left(self) -> Iterator[str]:
        if (left := self.latest.get("time/remaining_estimate")) is not None:
            yield f"{duration(timedelta(**{self.unit: left}).total_seconds())} left"

    def _slow_rank(self) -> Iterator[str]:
        """The rank that the others wait for, when it is more than jitter."""
        slowest, middle = (self.latest.get(f"time/step_alone_{which}") for which in ("max", "median"))
        if slowest is not None and middle is not None and slowest > SLOW * middle:
            yield f"rank {self.latest['time/slowest_rank']} is {100 * (slowest / middle - 1):.0f} % slower"
