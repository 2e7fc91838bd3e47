"""Trained runs as pictures: what accuracy costs, and how it came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import JOINED, LATENCY, Figure, figure
from cnnbench.comparison.report.plots.style import Picture, colour, logarithmic, marker, slug, title
from cnnbench.comparison.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = ("params", "macs", "time/wall_s")
BEST = 8
"""Configurations whose learning curves are drawn."""


def pictures(found: Comparison) -> Iterator[Picture]:
    """The metric over each cost, also over each latency that was measured; learning curves."""
    scored = [row for row in found.rows if row.score is not None]
    latencies = [key for key in found.columns_of_figures if key.partition(" (")[0] == JOINED[LATENCY]]
    for key in (*COSTS, *latencies):
        rows = [row for row in scored if row.mean(key)]
        if len(rows) > 1:
            name = f"{slug(found.metric.label)}-{slug(figure(key).label)}"
            yield name, (5.5, 3.6), _scatter(found, rows, key)
    if scored:
        yield "learning-curves", (5.5, 3.6), _curves(found, scored[:BEST])


def _label(row: Row) -> str:
    return console.legible(" ".join(row.settings.values()), 48)


def _scatter(found: Comparison, rows: Sequence[Row], key: str) -> Callable[[Axes], None]:
    metric, cost = found.metric, figure(key)

    def draw(axes: Axes) -> None:
        families = sorted({row.family for row in rows})
        for i, family in enumerate(families):
            part = [row for row in rows if row.family == family]
            x: Any = [row.mean(key) for row in part]
            y = [_at(metric, row) for row in part]
            axes.errorbar(
                x, [mean for mean, _, _ in y], [[m - low for m, low, _ in y], [high - m for m, _, high in y]],
                fmt=marker(i), color=colour(i), ms=5, lw=0.8,
                label=console.legible(family, 40),
            )  # fmt: skip
        logarithmic(axes, "x")
        axes.set(xlabel=title(cost), ylabel=title(metric))
        axes.legend(frameon=False, fontsize=8)

    return draw


def _at(metric: Figure, row: Row) -> tuple[float, float, float]:
    """Mean and interval as shown; a point where nothing tells the spread."""
    assert row.score is not None
    one = row.score
    low, high = (one.mean if end is None else end for end in (one.low, one.high))
    return metric.scale * one.mean, metric.scale * low, metric.scale * high


def _curves(found: Comparison, rows: Sequence[Row]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for i, row in enumerate(rows):
            runs = [
                [100 * one["val/acc"] for one in record.run.rows() if "val/acc" in one]
                for record in row.records
            ]
            length = max(map(len, runs), default=0)
            at = [[run[epoch] for run in runs if epoch < len(run)] for epoch in range(length)]
            epochs: Any = range(length)
            axes.plot(epochs, [fmean(values) for values in at], color=colour(i), lw=1.4, label=_label(row))
            axes.fill_between(
                epochs, [min(values) for values in at], [max(values) for values in at],
                color=colour(i), alpha=0.12, lw=0,
            )  # fmt: skip
        axes.set(xlabel="epoch (from 0)", ylabel="val accuracy %")
        axes.legend(frameon=False, fontsize=7)

    return draw
