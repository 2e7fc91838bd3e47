"""What probes measured, as W&B and other loggers show it: curves and heat maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnbench.run_store.probes import Cell, Table

VIRIDIS = ("440154", "414487", "2a788e", "22a884", "7ad151", "fde725")
"""Colours of the heat maps, evenly spaced, from the lowest value to the highest."""

GREY = (128, 128, 128)
"""Colour of what is not a number."""

CELL = 12
"""Least pixels of a cell of a heat map."""

WIDEST = 1200
"""Pixels beyond which a heat map's cells are narrower than `CELL`."""


def by_step(probes: Mapping[str, Table]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the optimizer steps at which probes measured, and what: `probes/activations/dead/<layer>` …"""
    found: dict[int, dict[str, float]] = {}
    for name, table in probes.items():
        for quantity, steps, things, values in _series(table):
            for i, step in enumerate(steps):
                for j, thing in enumerate(things):
                    if math.isfinite(values[j, i]):
                        found.setdefault(int(step), {})[f"probes/{name}/{quantity}/{thing}"] = values[j, i]
    yield from sorted(found.items())


def probe_charts(probes: Mapping[str, Table]) -> dict[str, Any]:
    """Return charts for W&B: curves and a heat map of each quantity over the steps; pictures of fields."""
    import wandb

    charts: dict[str, Any] = {}
    for name, table in probes.items():
        for quantity, steps, things, values in _series(table):
            key = f"probes/{name}/{quantity}"
            charts[key] = wandb.plot.line_series(
                xs=list(steps),
                ys=[[_finite(value) for value in row] for row in values.tolist()],
                keys=[str(thing) for thing in things],
                title=f"{name}: {quantity}",
                xname="step",
            )
            charts[f"{key} (map)"] = wandb.Image(
                heat_map(values), caption=_caption(table, steps, things, values)
            )
        if name == "field":
            for when in ("start", "end"):
                picture = _picture(table, when)
                charts[f"probes/field/{when}"] = wandb.Image(
                    heat_map(picture), caption=f"{when} of the training"
                )
        if name == "translation":
            for quantity in table.columns[1:]:
                rows = [
                    list(pair) for pair in zip(table.column("pixels"), table.column(quantity), strict=True)
                ]
                data = wandb.Table(columns=["pixels", quantity], data=rows)
                charts[f"probes/{name}/{quantity}"] = wandb.plot.line(
                    data, "pixels", quantity, title=f"{quantity} on shifted images"
                )
    return charts


def _series(table: Table) -> Iterator[tuple[str, list[Cell], list[Cell], NDArray[np.float64]]]:
    """Yield each quantity that a table has over steps: name, steps, things, and values (things, steps)."""
    if table.columns[0] != "step" or not table.rows:
        return
    steps = list(dict.fromkeys(table.column("step")))
    things = list(dict.fromkeys(table.column(table.columns[1])))
    for quantity in table.columns[2:]:
        values = np.array(table.column(quantity), dtype=np.float64).reshape(len(steps), len(things)).T
        measured = np.flatnonzero(
            ~np.isnan(values).all(1)
        )  # layers without an activation have no such values
        yield quantity, steps, [things[i] for i in measured], values[measured]


def _picture(table: Table, when: str) -> NDArray[np.float64]:
    rows, columns = (int(max(map(float, table.column(name)))) + 1 for name in ("row", "column"))
    return np.array(table.column(when), dtype=np.float64).reshape(rows, columns)


def heat_map(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return values (rows, columns) as an image (H, W, 3), a cell each, from the lowest to the highest."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    scaled = (np.where(np.isfinite(values), values, low) - low) / ((high - low) or 1.0)
    stops = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in VIRIDIS])
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(scaled, places, stops[:, channel]) for channel in range(3)]
    image = np.stack(channels, -1).round().astype(np.uint8)
    image[~np.isfinite(values)] = GREY
    wide = max(1, min(CELL, WIDEST // values.shape[1]))
    return image.repeat(CELL, 0).repeat(wide, 1)


def _caption(table: Table, steps: list[Cell], things: list[Cell], values: NDArray[np.float64]) -> str:
    finite = values[np.isfinite(values)]
    ends = f"{finite.min():.3g} (dark) to {finite.max():.3g} (light)" if finite.size else "no finite value"
    listed = f"{table.columns[1]}s from the top: {', '.join(map(str, things))}"
    return f"{ends}; steps {steps[0]} to {steps[-1]}; {listed}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
