"""Reading the metrics of a run back. Imports nothing heavy."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOSS, NORM = "loss/train/total", "l2_norm/grad/global"


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of the file, in order; one that a killed process has left half-written is passed over."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def read_metrics(path: Path) -> dict[int, dict[str, Any]]:
    """Batch → everything logged for it, in order; of a batch that was trained twice, the later run's values."""
    batches: dict[int, dict[str, Any]] = {}
    for entry in read_entries(path):
        if "process_started" not in entry:
            batches.setdefault(entry["batch"], {}).update(entry)
    return dict(sorted(batches.items()))


def series(batches: dict[int, dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """The batches at which a metric was logged, and its values."""
    points = [(batch, entry[name]) for batch, entry in batches.items() if name in entry]
    return [batch for batch, _ in points], [value for _, value in points]
