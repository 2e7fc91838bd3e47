"""The curves of a metric over numeric settings, one plot for each setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.report.plots.picture import Picture, title
from cnnbench.comparison.responses import Curve, Response
from cnnbench.pages.plot_style import colour, logarithmic, marker, slug
from cnnbench.run_store.select import natural_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = 8
"""The number of curves that are drawn, the best ones: as many as there are colours."""

ROOM = 0.07
"""The height of a row of marks of diverged runs, as a share of the plot."""


def pictures(comparison: Comparison) -> Iterator[Picture]:
    """Yield a plot of each response in which a run has a result."""
    for response in comparison.responses:
        if any(point.values(response.metric.key) for curve in response.curves for point in curve.points):
            yield f"over-{slug(response.axis)}", (5.5, 3.6), _draw(response)


def _draw(response: Response) -> Callable[[Axes], None]:
    """Return a function that draws a point per run, the means, and crosses where runs diverged."""

    def draw(axes: Axes) -> None:
        best = {curve.name: curve for curve in response.curves[:CURVES]}
        curves = [best[name] for name in natural_order(best)]
        if response.logarithmic:
            logarithmic(axes, "x")
        if response.metric.ratio:
            logarithmic(axes, "y")
        if len(curves) == 1 and response.joined and (noise := curves[0].noise) and noise[0] < noise[1]:
            first, last = (curves[0].points[i].value for i in noise)
            axes.axvspan(first, last, color=colour(0), alpha=0.1, lw=0, label="within noise of the best")
        for i, curve in enumerate(curves):
            _curve(axes, response, curve, i)
        _diverged(axes, curves)
        axes.set(xlabel=console.legible(response.axis), ylabel=title(response.metric))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=7)

    return draw


def _curve(axes: Axes, response: Response, curve: Curve, i: int) -> None:
    metric, ink = response.metric, colour(i)
    found = [(point.value, [metric.scale * y for y in point.values(metric.key)]) for point in curve.points]
    runs = [(x, y) for x, values in found for y in values]
    axes.plot(*zip(*runs, strict=True), marker(i), color=ink, mfc="none", ms=3.5, alpha=0.6) if runs else None
    if not response.joined:
        return
    means = [(x, fmean(values)) for x, values in found if values]
    if means:
        name = console.legible(curve.name, 48) or None
        axes.plot(*zip(*means, strict=True), marker(i), ls="-", color=ink, ms=4.5, lw=1.4, label=name)
    if curve.best is not None:
        x, values = found[curve.best]
        text = curve.points[curve.best].text
        axes.annotate(
            f"best: {console.legible(text)}", (x, max(values)), (0, 6), textcoords="offset points",
            ha="center", fontsize=7, color=ink,
        )  # fmt: skip


def _diverged(axes: Axes, curves: list[Curve]) -> None:
    """Mark the values with runs that diverged at the bottom, those of several curves above each other."""
    level: Counter[float] = Counter()
    lost = [(i, point) for i, curve in enumerate(curves) for point in curve.points if point.diverged]
    marks = []
    for i, point in lost:
        marks.append((i, point.value, ROOM * (level[point.value] + 0.5)))
        level[point.value] += 1
    if not marks:
        return
    for i, x, height in marks:
        axes.plot(x, height, "x", color=colour(i), ms=6, mew=1.8, transform=axes.get_xaxis_transform())
    axes.plot([], [], "x", color="0.4", ms=6, mew=1.8, label="diverged")
    axes.margins(y=0.05 + ROOM * max(level.values()))
