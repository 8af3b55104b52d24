"""The plots of an evaluation's report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from base.drawing import COLORS, GREY, PALE, as_count, as_percent, drawing, legend, name_rows, svg
from base.page import ACCENT, INK, MUTED, RULE

LOW = 2.2  # inches: of plots of which there are many
STEPS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Point:
    """A value with its 95 % interval, over tokens."""

    tokens: int
    value: float
    interval: tuple[float, float] | None = None


def over_tokens(series: Mapping[str, Sequence[Point]], label: str, baseline: float | None, shares: bool) -> str:
    """Lines over the tokens trained on, each with its band where its points have intervals; the baseline is dashed."""
    with drawing(LOW if len(series) < 2 else LOW + 0.3) as (figure, axes):
        for (name, points), color in zip(series.items(), COLORS, strict=False):
            tokens = [point.tokens for point in points]
            axes.plot(tokens, [point.value for point in points], color=color, marker="o", markersize=3.5, label=name)
            banded = [point for point in points if point.interval is not None]
            low, high = ([point.interval[side] for point in banded if point.interval] for side in (0, 1))
            axes.fill_between([point.tokens for point in banded], low, high, color=color, alpha=0.18, linewidth=0)
            if len(banded) == 1:  # of which a band shows nothing
                axes.vlines([banded[0].tokens], low, high, color=color, alpha=0.35, linewidth=4)
        if baseline is not None:
            axes.axhline(baseline, color=INK, linewidth=1, linestyle="--")
        axes.set(xlabel="tokens trained on", ylabel=label)
        axes.margins(y=0.12)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
        axes.xaxis.set_major_formatter(as_count)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
        if shares:
            _percent(axes)
        legend(axes, len(series))
        return svg(figure)


def bars_with_intervals(
    names: Sequence[str], values: Sequence[float], intervals: Sequence[tuple[float, float]], pale: Sequence[bool]
) -> str:
    """Horizontal bars of shares with their intervals; those that are not to be relied on in grey."""
    with drawing(0.25 * len(names) + 0.7) as (figure, axes):
        axes.barh(range(len(names)), values, color=[GREY if one else PALE for one in pale], height=0.7)
        below, above = _arms(values, intervals)
        for place, (value, less, more, grey) in enumerate(zip(values, below, above, pale, strict=True)):
            axes.errorbar(
                value,
                place,
                xerr=[[less], [more]],
                color=MUTED if grey else ACCENT,
                capsize=2.5,
                linewidth=1.2,
                fmt=".",
            )
        name_rows(axes, names)
        axes.tick_params(bottom=True, labelbottom=True)
        axes.spines["bottom"].set_visible(True)
        axes.grid(axis="x", visible=True, color=RULE, linewidth=0.8)
        axes.set_xlim(0, min(1.0, 1.03 * max(high for _, high in intervals)))
        axes.xaxis.set_major_formatter(as_percent)
        return svg(figure)


def answered_and_right(names: Sequence[str], answered: Sequence[int], right: Sequence[int]) -> str:
    """How often each option is answered, beside how often it is right."""
    with drawing(LOW + 0.3) as (figure, axes):
        places = range(len(names))
        axes.bar([place - 0.2 for place in places], answered, width=0.4, color=ACCENT, label="answered")
        axes.bar([place + 0.2 for place in places], right, width=0.4, color=GREY, label="right")
        axes.set_xticks(places, [name if len(name) <= 12 else f"{name[:11]}…" for name in names])
        axes.set_ylabel("questions")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=STEPS))
        axes.yaxis.set_major_formatter(as_count)
        legend(axes, 2)
        return svg(figure)


def reliability(
    probabilities: Sequence[float], accuracies: Sequence[float], intervals: Sequence[tuple[float, float]]
) -> str:
    """The share of right answers over the probability that the model gave them, one point a bin of equal size."""
    with drawing(LOW + 0.6) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
        axes.errorbar(
            probabilities, accuracies, yerr=_arms(accuracies, intervals), color=ACCENT, marker="o", markersize=4,
            capsize=2.5, linewidth=1.2,
        )  # fmt: skip
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="probability of the answer", ylabel="share of right answers")
        _percent(axes)
        axes.xaxis.set_major_formatter(as_percent)
        return svg(figure)


def _arms(values: Sequence[float], intervals: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """How far the intervals reach below and above; of rounding alone a limit may lie on the wrong side of its value."""
    below = [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)]
    return below, [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)]


def _percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
