"""The training as one line that a person can read; a plain log line each interval when there is no terminal."""

import shutil
import sys
import time
from typing import Any

from composer import Logger, State
from composer.loggers import LoggerDestination
from composer.utils import dist

from base.progress import count, duration, say

SLOW = 1.05  # times the median


class Console(LoggerDestination):
    """Loss, learning rate, gradient norm, tokens a second, MFU, memory, loader wait, a slow rank and time left.

    On rank 0's standard error; what no callback logs is left out.

    Args:
        total_batches: length of the run, or None when it is not known.
        total_tokens: the same in tokens; by these the time left is estimated, for not all batches need be alike.
        interval: batches between two log lines where there is no terminal, or ``one_line`` is off.
        one_line: on a terminal, rewrite one line instead of adding lines.
    """

    def __init__(self, total_batches: int | None, total_tokens: int | None, interval: int, one_line: bool):
        self.total, self.total_tokens, self.interval = total_batches, total_tokens, interval
        self.rewrite = one_line and sys.stderr.isatty()
        self.latest: dict[str, Any] = {}
        self.scores: dict[str, Any] = {}
        self.validation: dict[str, Any] = {}
        self.start = self.start_batch = self.start_token = 0.0

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.latest.update(metrics)
        self.scores.update({name: value for name, value in metrics.items() if name.startswith("eval/")})
        self.validation.update({name: value for name, value in metrics.items() if name.startswith("metrics/")})

    def fit_start(self, state: State, logger: Logger) -> None:
        self.start = time.monotonic()
        self.start_batch, self.start_token = state.timestamp.batch.value, state.timestamp.token.value
        if self.start_batch and dist.get_global_rank() == 0:
            say(f"resumed at batch {self.start_batch}")

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
        seconds = max(time.monotonic() - self.start, 1e-9)
        of_total = f"/{self.total} ({100 * batch / self.total:.0f} %)" if self.total else ""
        parts = [f"batch {batch}{of_total}", f"loss {self.latest.get('loss/train/total', float('nan')):.4f}"]
        for name, label in (("lr-", "lr"), ("l2_norm/grad/global", "norm"), ("throughput/device/mfu", "MFU")):
            value = next((value for key, value in self.latest.items() if key.startswith(name)), None)
            if value is not None:
                parts.append(f"{label} {value:.3g}")
        parts.append(f"{count((token - self.start_token) / seconds)} tok/s")
        parts += self._watched()
        if self.total_tokens and token > self.start_token:
            parts.append(f"{duration((self.total_tokens - token) * seconds / (token - self.start_token))} left")
        return "  ".join(parts)

    def _watched(self) -> list[str]:
        """Memory; what the loader was waited for; the rank that the others wait for, when it is more than jitter."""
        parts = []
        if (memory := self.latest.get("memory/peak_reserved_mem")) is not None:
            parts.append(f"{memory:.1f} GB")
        if (wait := self.latest.get("time/loader_wait_max", self.latest.get("time/loader_wait"))) is not None:
            parts.append(f"loader {1000 * wait:.1f} ms")
        slowest = self.latest.get("time/step_alone_max", 0.0)
        if slowest > SLOW * self.latest.get("time/step_alone_median", float("inf")):
            over = slowest / self.latest["time/step_alone_median"] - 1
            parts.append(f"rank {self.latest['time/slowest_rank']} is {100 * over:.0f} % slower")
        return parts
