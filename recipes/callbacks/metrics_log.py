"""Every metric of a run as JSON lines, one a batch, for reports and for comparing runs bit for bit."""

import json
import time
from pathlib import Path
from typing import Any

from composer import Logger, State
from composer.loggers import LoggerDestination
from composer.utils import dist

# Composer logs the position at the start of each batch; each line has it already, as it is at the end.
POSITION = {
    f"time/{name}"
    for name in ("epoch", "batch", "sample", "token", "batch_in_epoch", "sample_in_epoch", "token_in_epoch")
}


class MetricsLog(LoggerDestination):
    """Append ``{"batch": …, "token": …, metric: value …}`` to a file after each batch (rank 0).

    Metrics that come after the batch, such as scores and the validation loss, stand in a further line with the same
    ``batch``. A resumed run appends; :func:`recipes.metrics.read_metrics` lets the later line win.
    """

    def __init__(self, path: Path):
        self.path = path
        self.pending: dict[str, Any] = {}
        self.start = time.monotonic()

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.pending.update({name: value for name, value in metrics.items() if name not in POSITION})

    def fit_start(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() == 0:
            self._end_cut_line()
        self.pending = {"process_started": time.time()}
        self._flush(state)

    def batch_end(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def fit_end(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def eval_after_all(self, state: State, logger: Logger) -> None:  # the last one comes after fit_end
        self._flush(state)

    def close(self, state: State, logger: Logger) -> None:
        """Of a step that a guard has ended the run at, that alone: it is none of the steps that were done."""
        self.pending = {name: value for name, value in self.pending.items() if name.startswith("guard/")}
        self._flush(state)

    def _flush(self, state: State) -> None:
        pending, self.pending = self.pending, {}
        if not pending or dist.get_global_rank() != 0:
            return
        seconds = round(time.monotonic() - self.start, 3)
        line = {"batch": state.timestamp.batch.value, "token": state.timestamp.token.value, "seconds": seconds}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | pending, default=float) + "\n")

    def _end_cut_line(self) -> None:
        """What a killed process has left half-written would swallow the next line."""
        text = self.path.read_bytes() if self.path.exists() else b""
        if text and not text.endswith(b"\n"):
            with self.path.open("ab") as file:
                file.write(b"\n")
