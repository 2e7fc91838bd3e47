"""The style that all plots share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnbench import console
from cnnbench.comparison.metrics import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's palette, which people with colour blindness can distinguish."""

MARKERS = "osD^vPX*"
"""Matplotlib's names of the markers."""

Picture = tuple[str, tuple[float, float], Callable[["Axes"], None]]
"""A plot: the name of its file, its size in inches, and the function that draws it."""


def colour(i: int) -> str:
    """Return the i-th colour, from the start again after the last."""
    return COLOURS[i % len(COLOURS)]


def marker(i: int) -> str:
    """Return the i-th marker, from the start again after the last."""
    return MARKERS[i % len(MARKERS)]


def slug(text: str) -> str:
    """Turn a label into the name of a file."""
    return "".join(c if c.isalnum() else "-" for c in text.removesuffix(".name"))


def title(metric: Figure) -> str:
    """Return the title of a plot's axis: the metric's label and its unit."""
    return " ".join(filter(None, (console.legible(metric.label), metric.unit)))


def logarithmic(axes: Axes, which: str) -> None:
    """Make the axis `x` or `y` logarithmic, with ticks at 1, 2 and 5 or, over a wide range, at 1 alone."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

    class RoundTicks(LogLocator):
        def tick_values(self, vmin: float, vmax: float) -> Any:
            self.set_params(subs=(1,) if vmax > 1000 * vmin else (1, 2, 5))
            return super().tick_values(vmin, vmax)

    scale: Any = {f"{which}scale": "log"}
    axes.set(**scale)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(RoundTicks())
    large = EngFormatter(sep=" ")
    axis.set_major_formatter(FuncFormatter(lambda x, at: large(x, at) if x >= 1000 else f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())
