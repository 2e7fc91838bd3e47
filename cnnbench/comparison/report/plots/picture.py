"""What a plot of a comparison is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.comparison.metrics import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Picture = tuple[str, tuple[float, float], Callable[["Axes"], None]]
"""A plot: the name of its file, its size in inches, and the function that draws it."""


def title(metric: Figure) -> str:
    """Return the title of a plot's axis: the metric's label and its unit."""
    return " ".join(filter(None, (console.legible(metric.label), metric.unit)))
