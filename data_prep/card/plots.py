"""The plots of the card."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from base.drawing import COLORS, GREY, as_count, as_percent, drawing, legend, name_rows, svg
from base.page import ACCENT, INK, MUTED
from base.progress import count


def flow(total: int, dropped: Sequence[tuple[str, int]], kept: int) -> str:
    """From the records that came in, reason by reason, to the documents kept."""
    rows = [("records in", 0, total, ACCENT)]
    left = total
    for reason, number in dropped:
        rows.append((reason, left - number, number, GREY))
        left -= number
    rows.append(("kept", 0, kept, ACCENT))
    with drawing(0.32 * len(rows) + 0.5) as (figure, axes):
        for place, (_, start, number, color) in enumerate(rows):
            axes.barh(place, number, left=start, color=color, height=0.7)
            label = count(number) if color == ACCENT else f"− {count(number)}"
            gap = 0.01 * total
            if number > 0.2 * total:
                white = "white" if color == ACCENT else INK
                axes.text(start + number - gap, place, label, va="center", ha="right", color=white)
            elif start > 0.2 * total:
                axes.text(start - gap, place, label, va="center", ha="right")
            else:
                axes.text(start + number + gap, place, label, va="center", ha="left")
        name_rows(axes, [name for name, *_ in rows])
        axes.set_xlim(0, total)
        return svg(figure)


def stacked(values: Sequence[int], by_source: Mapping[str, Sequence[int]], label: str) -> str:
    """Bars over whole numbers such as years, one colour a source."""
    with drawing(3.0) as (figure, axes):
        bottom = [0] * len(values)
        for (source, numbers), color in zip(by_source.items(), COLORS, strict=False):
            axes.bar(values, numbers, bottom=bottom, width=0.9, color=color, label=source)
            bottom = [a + b for a, b in zip(bottom, numbers, strict=True)]
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        _counts(axes)
        legend(axes, len(by_source))
        return svg(figure)


def shares(bins: Sequence[str], series: Mapping[str, Sequence[float]], label: str) -> str:
    """One or two series of shares, side by side in each bin."""
    with drawing(3.0) as (figure, axes):
        width = 0.8 / len(series)
        for place, ((name, values), color) in enumerate(zip(series.items(), COLORS, strict=False)):
            at = [index + (place - (len(series) - 1) / 2) * width for index in range(len(bins))]
            axes.bar(at, values, width=width, color=color, label=name)
        slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(bins) > 7 else {}
        axes.set_xticks(range(len(bins)), bins, **slanted)
        axes.set_xlabel(label)
        axes.yaxis.set_major_formatter(as_percent)
        legend(axes, len(series))
        return svg(figure)


def bars(
    names: Sequence[str], values: Sequence[float], label: str, first: int = 0, digits: int = 2, most: float = 0
) -> str:
    """Horizontal bars with their values; ``first`` so many in the accent colour (0: all); ``most`` is what the scale
    must hold besides the values, for plots that stand side by side."""
    with drawing(0.27 * len(names) + 0.8) as (figure, axes):
        colors = [ACCENT if not first or index < first else GREY for index in range(len(names))]
        drawn = axes.barh(range(len(names)), values, color=colors, height=0.7)
        axes.bar_label(drawn, [f"{value:.{digits}f}" for value in values], padding=3)
        name_rows(axes, names)
        axes.set_xlim(0, 1.15 * max(most, *values) or 1)
        axes.set_xlabel(label)
        return svg(figure)


def line(x: Sequence[float], y: Sequence[float], x_label: str, y_label: str, marked: float | None) -> str:
    """A line through points, on a logarithmic x; ``marked`` is an x worth a dashed line."""
    with drawing(3.0) as (figure, axes):
        axes.plot(x, y, color=ACCENT, marker="o", markersize=4)
        if marked is not None:
            axes.axvline(marked, color=MUTED, linewidth=1, linestyle="--")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
        # Sizes that lie close together would be written over each other; the last one is always named.
        named = [value for value, following in pairwise(x) if following >= 1.3 * value] + [x[-1]]
        axes.set_xticks(named, [count(value) for value in named])
        axes.set(xlabel=x_label, ylabel=y_label)
        return svg(figure)


def _counts(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(as_count)
