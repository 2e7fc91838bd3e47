"""Measurements as pictures: how fast each model is each way, and where it lies under the roofline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import LATENCY, figure
from cnnbench.comparison.report.plots.style import Picture, colour, logarithmic, marker, slug, title
from cnnbench.comparison.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SPEEDS = (LATENCY, "time/inference_images_per_s", "time/training_images_per_s")
ROOFLINE = ("roofline/flop_per_byte", "time/flops", "time/ceiling_flops", "time/ceiling_bytes_per_s")
MODEL = ("arch.", "ops.", "data.")
"""What a line of the pictures is; the other axes say how it was measured."""


def pictures(found: Comparison) -> Iterator[Picture]:
    """A picture of each speed, and the roofline."""
    for key in SPEEDS:
        rows = [row for row in found.rows if row.mean(key)]
        lines = len({_model(row) for row in rows})
        if rows:
            yield slug(figure(key).label), (5.5, 1.4 + 0.34 * lines), _speeds(rows, key)
    placed = [row for row in found.rows if all(row.mean(key) for key in ROOFLINE)]
    if placed:
        yield "roofline", (5.5, 4.2), _roofline(placed)


def _model(row: Row) -> str:
    said = " ".join(value for key, value in row.settings.items() if key.startswith(MODEL))
    archs = {member.settings.get("arch.name", "") for member in row.members}
    return said or (archs.pop() if len(archs) == 1 else "all models")


def _way(row: Row, prefix: str = "") -> str:
    """How it was measured: `eager`, or `compile, threads=2`."""
    said = []
    for key, value in row.settings.items():
        if not key.startswith(MODEL) and key.startswith(prefix):
            said.append(value if key == "backend" else f"{key.removeprefix('device.')}={value}")
    return ", ".join(said)


def _speeds(rows: Sequence[Row], key: str) -> Callable[[Axes], None]:
    """A line a model, a marker a way, with the 95 % interval over repeats."""

    def draw(axes: Axes) -> None:
        models = list(dict.fromkeys(map(_model, rows)))
        ways = sorted(set(map(_way, rows)))
        step = 0.7 / len(ways)
        for i, way in enumerate(ways):
            part = [row for row in rows if _way(row) == way]
            at = [models.index(_model(row)) + step * (i - (len(ways) - 1) / 2) for row in part]
            found = [one for row in part if (one := row.estimate(key)) is not None]
            ends = [[0.0 if one.low is None else one.mean - one.low for one in found],
                    [0.0 if one.high is None else one.high - one.mean for one in found]]  # fmt: skip
            axes.errorbar(
                [one.mean for one in found], at, xerr=ends, fmt=marker(i),
                color=colour(i), ms=4.5, lw=0.8, label=console.legible(way, 40) or None,
            )  # fmt: skip
        axes.set_yticks(range(len(models)), [console.legible(model, 40) for model in models])
        axes.invert_yaxis()
        logarithmic(axes, "x")
        axes.set(xlabel=title(figure(key)))
        _legend(axes)

    return draw


def _roofline(rows: Sequence[Row]) -> Callable[[Axes], None]:
    """What a model reaches, over its operations a byte that it moves (doi:10.1145/1498765.1498785)."""

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
            here = [row for row in rows if _way(row, "device.") == device]
            peak, copied = (fmean(_value(row, key) for row in here) for key in ROOFLINE[2:])
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
    found = row.mean(key)
    assert found is not None
    return found


def _legend(axes: Axes) -> None:
    """Beside the picture: there may be a dozen lines of it."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
