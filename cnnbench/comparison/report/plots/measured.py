"""Plots of measurements: the speed of each model in each way of measuring it, and the roofline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import LATENCY, figure
from cnnbench.comparison.report.plots.picture import Picture, title
from cnnbench.comparison.rows import Row
from cnnbench.pages.plot_style import colour, logarithmic, marker, slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPEEDS = (LATENCY, "time/inference_images_per_s", "time/training_images_per_s")
ROOFLINE = ("roofline/flop_per_byte", "time/flops", "time/ceiling_flops", "time/ceiling_bytes_per_s")
MODEL = ("arch.", "ops.", "data.")
"""Prefixes of the settings that name a model (a line of the plots); the others say how it was measured."""


def pictures(comparison: Comparison) -> Iterator[Picture]:
    """Yield a plot of each speed, and the roofline."""
    for key in SPEEDS:
        rows = [row for row in comparison.rows if row.mean(key)]
        lines = len({_model(row) for row in rows})
        if rows:
            yield slug(figure(key).label), (5.5, 1.4 + 0.34 * lines), _speeds(rows, key)
    placed = [row for row in comparison.rows if all(row.mean(key) for key in ROOFLINE)]
    if placed:
        yield "roofline", (5.5, 4.2), _roofline(placed)


def _model(row: Row) -> str:
    name = " ".join(value for key, value in row.settings.items() if key.startswith(MODEL))
    archs = {member.settings.get("arch.name", "") for member in row.members}
    return name or (archs.pop() if len(archs) == 1 else "all models")


def _way(row: Row, prefix: str = "") -> str:
    """Return how a row was measured: `eager`, or `compile, threads=2`."""
    texts = []
    for key, value in row.settings.items():
        if not key.startswith(MODEL) and key.startswith(prefix):
            texts.append(value if key == "backend" else f"{key.removeprefix('device.')}={value}")
    return ", ".join(texts)


def _speeds(rows: Sequence[Row], key: str) -> Callable[[Axes], None]:
    """Return a function that draws a line per model, a marker per way, and 95 % intervals over repeats."""

    def draw(axes: Axes) -> None:
        models = list(dict.fromkeys(map(_model, rows)))
        ways = sorted(set(map(_way, rows)))
        step = 0.7 / len(ways)
        for i, way in enumerate(ways):
            measured = [row for row in rows if _way(row) == way]
            y = [models.index(_model(row)) + step * (i - (len(ways) - 1) / 2) for row in measured]
            speeds = [speed for row in measured if (speed := row.estimate(key)) is not None]
            errors = [
                [0.0 if speed.low is None else speed.mean - speed.low for speed in speeds],
                [0.0 if speed.high is None else speed.high - speed.mean for speed in speeds],
            ]
            axes.errorbar(
                [speed.mean for speed in speeds], y, xerr=errors, fmt=marker(i),
                color=colour(i), ms=4.5, lw=0.8, label=console.legible(way, 40) or None,
            )  # fmt: skip
        axes.set_yticks(range(len(models)), [console.legible(model, 40) for model in models])
        axes.invert_yaxis()
        logarithmic(axes, "x")
        axes.set(xlabel=title(figure(key)))
        _legend(axes)

    return draw


def _roofline(rows: Sequence[Row]) -> Callable[[Axes], None]:
    """Return a function that draws FLOP/s over FLOP per byte, and rooflines (doi:10.1145/1498765.1498785)."""

    def draw(axes: Axes) -> None:
        families = sorted({row.family for row in rows})
        ways = sorted(set(map(_way, rows)))
        for row in rows:
            x, y = _value(row, ROOFLINE[0]), _value(row, ROOFLINE[1])
            axes.plot(
                x, y, marker(ways.index(_way(row))), ms=4.5, alpha=0.85,
                color=colour(families.index(row.family)),
            )  # fmt: skip
        reached = [_value(row, ROOFLINE[0]) for row in rows]
        left, right = min(reached) / 2, max(reached) * 2
        for i, device in enumerate(sorted({_way(row, "device.") for row in rows})):
            on_device = [row for row in rows if _way(row, "device.") == device]
            peak, copied = (fmean(_value(row, key) for row in on_device) for key in ROOFLINE[2:])
            ridge = min(max(peak / copied, left), right)
            axes.plot(
                [left, ridge, right], [min(peak, x * copied) for x in (left, ridge, right)],
                color="black", lw=1, ls=("-", "--", ":", "-.")[i % 4],
                label=console.legible(f"roofline ({device})" if device else "roofline", 40),
            )  # fmt: skip
        for i, family in enumerate(families):
            axes.plot([], [], "s", color=colour(i), ms=5, label=console.legible(family, 40))
        for i, way in enumerate(ways if len(ways) > 1 else []):
            axes.plot([], [], marker(i), color="0.5", ms=5, label=console.legible(way, 40))
        logarithmic(axes, "x")
        logarithmic(axes, "y")
        axes.set(xlabel="FLOP per byte", ylabel="FLOP/s")
        _legend(axes)

    return draw


def _value(row: Row, key: str) -> float:
    value = row.mean(key)
    assert value is not None
    return value


def _legend(axes: Axes) -> None:
    """Add a legend beside the plot: it may have a dozen lines."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
