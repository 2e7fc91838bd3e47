"""The style that all plots share, drawn with matplotlib (extra `plots`)."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cnnbench.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's palette, which people with colour blindness can distinguish."""

MARKERS = "osD^vPX*"
"""Matplotlib's names of the markers."""

STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is not markup
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "cnnbench",  # equal plots give equal files
}
"""Settings of matplotlib."""

SAVED: dict[str, dict[str, Any]] = {
    ".png": {"dpi": 300},
    ".svg": {"metadata": {"Date": None}},
    ".pdf": {"metadata": {"CreationDate": None}},
}
"""Options of the formats, by suffix."""


def installed() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check_installed(option: str) -> None:
    """Check that plots can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    if not installed():
        raise InputError(f"{option}: needs matplotlib; run `pip install 'cnnbench[plots]'`")


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the shared style."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in the PNG; the SVG keeps the text
        yield


def colour(i: int) -> str:
    """Return the i-th colour, from the start again after the last."""
    return COLOURS[i % len(COLOURS)]


def marker(i: int) -> str:
    """Return the i-th marker, from the start again after the last."""
    return MARKERS[i % len(MARKERS)]


def slug(text: str) -> str:
    """Turn a label into the name of a file."""
    return "".join(c if c.isalnum() else "-" for c in text.removesuffix(".name"))


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
