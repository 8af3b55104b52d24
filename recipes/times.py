"""Times as Composer writes them: ``100ba``, ``1ep``, ``1000tok``, ``1800sec``, ``0.2dur``; sizes as Streaming does.

Imports nothing heavy.
"""

import math
import re
from typing import TYPE_CHECKING

from recipes.batch_size import BatchSizes

if TYPE_CHECKING:
    from recipes.schema import Training

TIME_UNITS = ("ba", "tok", "sp", "ep", "sec")
Duration = tuple[int, str]


def parse_time(text: str) -> Duration:
    """``"100ba"`` → ``(100, "ba")``. Raises ValueError with the forms that are known."""
    match = re.fullmatch(rf"(\d[\d_]*)({'|'.join(TIME_UNITS)})", text)
    if not match:
        raise ValueError(f"must be a number and a unit, such as 100ba, 1ep, 300000000000tok or 1800sec; it is {text!r}")
    return int(match[1].replace("_", "")), match[2]


def parse_fraction(text: str) -> float | None:
    """``"0.2dur"``, a part of the run, → 0.2; None for a time in another unit."""
    match = re.fullmatch(r"(\d*\.?\d+)dur", text)
    return float(match[1]) if match else None


def batch_sizes(config: "Training") -> BatchSizes:
    """How many sequences each batch holds; ``batch_size_warmup`` is in tokens or sequences."""
    warmup = config.batch_size_warmup
    times = [parse_time(time) for time in warmup.double_at] if warmup is not None else []
    samples = (value if unit == "sp" else -(-value // config.max_seq_len) for value, unit in times)
    return BatchSizes(config.global_train_batch_size, tuple(samples))


def parse_bytes(size: int | str) -> int:
    """``"1.5gb"``, in units of 1024 as in Streaming, → bytes. Raises ValueError with the forms that are known."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(b|kb|mb|gb|tb|pb)?", str(size).strip().lower())
    if not match:
        raise ValueError(f"must be a number of bytes, or such as 500mb, 200gb or 1tb; it is {size!r}")
    return int(float(match[1]) * 1024 ** (["b", "kb", "mb", "gb", "tb", "pb"].index(match[2] or "b")))


def duration_in_batches(time: str, config: "Training", samples_per_epoch: int | None) -> int | None:
    """A time in batches; None when it needs the size of the dataset (``ep``) and that is not known, or for ``sec``."""
    value, unit = parse_time(time)
    if unit == "ba":
        return value
    if unit == "tok":
        return batch_sizes(config).batches(-(-value // config.max_seq_len))
    if unit == "sp":
        return batch_sizes(config).batches(value)
    if unit == "ep" and samples_per_epoch is not None:
        return value * (samples_per_epoch // config.global_train_batch_size)
    return None


def warmup_in_batches(config: "Training", samples_per_epoch: int | None) -> float | None:
    """Batches of the schedule's warmup; None when that needs the size of the dataset."""
    warmup = part_of_run(config.scheduler.t_warmup, config, samples_per_epoch)
    batches = duration_in_batches(config.max_duration, config, samples_per_epoch)
    if warmup is None or batches is None:
        return None
    (value, unit), sizes = parse_time(config.max_duration), batch_sizes(config)
    if unit in ("ba", "ep"):
        return warmup * batches
    samples = warmup * value / (config.max_seq_len if unit == "tok" else 1)
    return samples / sizes.first if samples < sizes.first else sizes.batches(math.ceil(round(samples, 6)))


def in_unit_of_run(time: str, config: "Training") -> str:
    """A time of the schedule in the unit of ``max_duration`` (batches, for epochs); ``dur`` and ``ep`` stay."""
    if parse_fraction(time) is not None or time.endswith("ep"):
        return time
    (value, unit), whole_unit = parse_time(time), parse_time(config.max_duration)[1]
    tokens = {"ba": config.tokens_per_batch, "ep": config.tokens_per_batch, "tok": 1, "sp": config.max_seq_len}
    return f"{-(-value * tokens[unit] // tokens[whole_unit])}{'ba' if whole_unit == 'ep' else whole_unit}"


def part_of_run(time: str, config: "Training", samples_per_epoch: int | None = None) -> float | None:
    """A time of the schedule as a part of ``max_duration``; None when that needs the size of the dataset."""
    fraction = parse_fraction(time)
    if fraction is not None:
        return fraction
    (value, unit), (whole, whole_unit) = parse_time(time), parse_time(config.max_duration)
    if unit == whole_unit:
        return value / whole
    batch = config.global_train_batch_size * config.max_seq_len
    tokens = {"ba": batch, "tok": 1, "sp": config.max_seq_len}
    if samples_per_epoch is not None and samples_per_epoch >= config.global_train_batch_size:
        tokens["ep"] = samples_per_epoch // config.global_train_batch_size * batch
    if unit not in tokens or whole_unit not in tokens:
        return None
    return value * tokens[unit] / (whole * tokens[whole_unit])
