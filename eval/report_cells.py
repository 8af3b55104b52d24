"""How numbers of an evaluation's report stand in cells."""

from typing import Any

from base.page import plain
from eval.task import ACC, ACC_BYTES, ACC_NORM, ACC_PMI, ACC_TOKEN

MEANINGS = {
    ACC: "sum",
    ACC_NORM: "by characters",
    ACC_BYTES: "by bytes",
    ACC_TOKEN: "by tokens",
    ACC_PMI: "less the answer alone",
}
"""By which likelihood an accuracy takes its answer."""


def percent(share: float | None) -> str:
    """A share in percent with one decimal; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}"


def number(value: float | None) -> str:
    """With three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def between(interval: tuple[float, float] | None) -> str:
    """``38.2 – 41.0``, in percent; a dash for None."""
    return "–" if interval is None else f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"


def flat(told: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested values by the path to them; what is None is left out."""
    found: list[tuple[str, str]] = []
    for key, value in told.items():
        if isinstance(value, dict):
            found += flat(value, f"{before}{key}.")
        elif value is not None:
            found.append((plain(f"{before}{key}"), plain(value)))
    return found
