"""Plots of trained runs: accuracy against cost, and learning curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import JOINED, LATENCY, Figure, figure
from cnnbench.comparison.report.plots.picture import Picture, title
from cnnbench.comparison.rows import Row
from cnnbench.pages.plot_style import colour, logarithmic, marker, slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = ("params", "macs", "time/wall_s")
"""The keys of the costs; measured latencies are added to them."""

BEST = 8
"""The number of rows whose learning curves are drawn, the first ones."""


def pictures(comparison: Comparison) -> Iterator[Picture]:
    """Yield plots of the metric over each cost and each measured latency, and of the learning curves."""
    scored = [row for row in comparison.rows if row.score is not None]
    latencies = [key for key in comparison.columns_of_figures if key.partition(" (")[0] == JOINED[LATENCY]]
    for key in (*COSTS, *latencies):
        rows = [row for row in scored if row.mean(key)]
        if len(rows) > 1:
            name = f"{slug(comparison.metric.label)}-{slug(figure(key).label)}"
            yield name, (5.5, 3.6), _scatter(comparison.metric, rows, figure(key))
    if any("val/acc" in epoch for row in scored for record in row.records for epoch in record.rows()[:1]):
        yield "learning-curves", (5.5, 3.6), _curves(scored[:BEST])


def _label(row: Row) -> str:
    return console.legible(" ".join(row.settings.values()), 48)


def _scatter(metric: Figure, rows: Sequence[Row], cost: Figure) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        families = sorted({row.family for row in rows})
        for i, family in enumerate(families):
            members = [row for row in rows if row.family == family]
            x: Any = [row.mean(cost.key) for row in members]
            y = [_interval(metric, row) for row in members]
            axes.errorbar(
                x, [mean for mean, _, _ in y], [[m - low for m, low, _ in y], [high - m for m, _, high in y]],
                fmt=marker(i), color=colour(i), ms=5, lw=0.8,
                label=console.legible(family, 40),
            )  # fmt: skip
        logarithmic(axes, "x")
        axes.set(xlabel=title(cost), ylabel=title(metric))
        axes.legend(frameon=False, fontsize=8)

    return draw


def _interval(metric: Figure, row: Row) -> tuple[float, float, float]:
    """Return mean, low and high of the score, in the displayed unit; equal if there is no interval."""
    assert row.score is not None
    score = row.score
    low, high = (score.mean if end is None else end for end in (score.low, score.high))
    return metric.scale * score.mean, metric.scale * low, metric.scale * high


def _curves(rows: Sequence[Row]) -> Callable[[Axes], None]:
    """Return a function that draws mean val accuracies, with a band from the lowest to the highest run."""

    def draw(axes: Axes) -> None:
        for i, row in enumerate(rows):
            runs = [
                [100 * epoch["val/acc"] for epoch in record.rows() if "val/acc" in epoch]
                for record in row.records
            ]
            length = max(map(len, runs), default=0)
            by_epoch = [[run[epoch] for run in runs if epoch < len(run)] for epoch in range(length)]
            x: Any = range(length)
            axes.plot(x, [fmean(values) for values in by_epoch], color=colour(i), lw=1.4, label=_label(row))
            axes.fill_between(
                x, [min(values) for values in by_epoch], [max(values) for values in by_epoch],
                color=colour(i), alpha=0.12, lw=0,
            )  # fmt: skip
        axes.set(xlabel="epoch (from 0)", ylabel="val accuracy %")
        axes.legend(frameon=False, fontsize=7)

    return draw
