"""What the plots of pages have in common: an SVG has the same bytes for the same numbers, whatever matplotlib's
settings on the machine."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from base.page import ACCENT, INK, MUTED, RULE
from base.progress import count

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters: smaller, and they can be searched
    "svg.hashsalt": "card",  # any fixed text; with another one the pages that there are would get other bytes
    "savefig.dpi": 200,  # of lines that are drawn as pixels
    "text.parse_math": False,  # a dollar sign in data is a dollar sign
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#9aa5b1",
    "xtick.color": MUTED,
    "ytick.color": INK,
}
PALE, GREY = "#9dbfe3", "#cbd2d9"
COLORS = (ACCENT, PALE, GREY, MUTED)
WIDTH = 5.6  # inches
LONGEST_NAME = 34  # characters


@contextmanager
def drawing(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure as wide as all others and ``height`` inches high, with its axes."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        yield figure, axes


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names beside horizontal bars, the first at the top; the bars carry their numbers, so no scale is needed."""
    shown = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    axes.set_yticks(range(len(names)), shown)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(left=False, bottom=False, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(visible=False)


def legend(axes: Axes, series: int) -> None:
    """Above the plot, where nothing can lie below it; none for a single series."""
    if series > 1:
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=series, borderaxespad=0)


def as_count(value: float, place: float = 0) -> str:
    """A tick: ``1.2M``."""
    return count(value) if value else "0"


def as_percent(value: float, place: float = 0) -> str:
    """A tick: a share as ``40 %``."""
    return f"{100 * value:.0f} %"


def svg(figure: Figure) -> str:
    """The figure as an element of a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
