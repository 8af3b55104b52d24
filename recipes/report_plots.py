"""The plots of a run's report. A line of very many points is drawn as pixels: as a drawing it would be megabytes."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from base.drawing import GREY, PALE, drawing, legend, name_rows, svg
from base.page import ACCENT, INK, MUTED

HEIGHT = 2.4  # inches; with a legend, somewhat more
MOST_POINTS = 10_000
Series = tuple[Sequence[int], Sequence[float]]
"""Batches, and the value at each."""


def over_batches(series: Series, label: str, starts: Sequence[int] = ()) -> str:
    """A line, dotted where the run was gone on with."""
    with drawing(HEIGHT) as (figure, axes):
        _line(axes, series, color=ACCENT)
        for batch in starts:
            axes.axvline(batch, color=MUTED, linewidth=1, linestyle=":")
        axes.set(xlabel="batch", ylabel=label)
        return svg(figure)


def from_zero(series: Series, label: str) -> str:
    """A line of what is seen as a share of its largest value."""
    with drawing(HEIGHT) as (figure, axes):
        _line(axes, series, color=ACCENT)
        axes.set(xlabel="batch", ylabel=label, ylim=(0, None))
        return svg(figure)


def at_few_batches(series: Series, label: str) -> str:
    """A line with its points."""
    with drawing(HEIGHT) as (figure, axes):
        axes.plot(*series, color=ACCENT, marker="o", markersize=4)
        axes.set(xlabel="batch", ylabel=label, xlim=(0, None))
        return svg(figure)


def killed_and_resumed(whole: Series, resumed: Series, killed_at: int, resumed_at: int) -> str:
    """The loss of a run that was killed (dashed) and resumed (dotted), upon that of the same run left alone."""
    with drawing(HEIGHT + 0.3) as (figure, axes):
        axes.plot(*whole, color=PALE, linewidth=4, label="left alone")
        axes.plot(*resumed, color=INK, linewidth=1, label="killed and resumed")
        axes.axvline(killed_at, color=ACCENT, linewidth=1, linestyle="--")
        axes.axvline(resumed_at, color=ACCENT, linewidth=1, linestyle=":")
        axes.set(xlabel="batch", ylabel="loss")
        legend(axes, 2)
        return svg(figure)


def seconds_of_steps(step: Series, alone: Series, wait: Series) -> str:
    """On a logarithmic axis: a loader that keeps up is waited for a thousandth of a step."""
    with drawing(HEIGHT + 0.3) as (figure, axes):
        _line(axes, step, color=ACCENT, label="step")
        _line(axes, alone, color=INK, linestyle="", marker="o", markersize=4, label="slowest rank")
        _line(axes, wait, color=MUTED, linewidth=1, label="loader")
        axes.set(xlabel="batch", ylabel="seconds", yscale="log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        seconds = [*step[1], *alone[1], *wait[1]]
        within = max(seconds) < 10 * min(seconds)  # a power of ten, which may be named nowhere
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(plain if within else NullFormatter())
        legend(axes, 3)
        return svg(figure)


def tokens_a_word(words: Mapping[str, float]) -> str:
    """A bar a tokenizer, the first of them ours."""
    with drawing(0.32 * len(words) + 0.5) as (figure, axes):
        bars = axes.barh(range(len(words)), list(words.values()), color=[ACCENT, *[GREY] * (len(words) - 1)])
        axes.bar_label(bars, fmt="%.2f", padding=3)
        name_rows(axes, list(words))
        return svg(figure)


def _line(axes: Axes, series: Series, **style: Any) -> None:
    axes.plot(*series, rasterized=len(series[0]) > MOST_POINTS, **style)
