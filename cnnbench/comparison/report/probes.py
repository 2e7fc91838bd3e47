"""What probes measured, by row of the comparison: means over the runs of a row, thinned for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnnbench.comparison.comparison import Comparison
from cnnbench.run_store.probes import Table

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

MOST_STEPS = 80
"""Steps of a curve on the page: of more, evenly spaced ones are taken."""

MOST_PIXELS = 56
"""Rows and columns of a picture: those of larger ones are means of squares of pixels."""


def probed_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return what the runs of each row were measured with: index of the row, series, and field."""
    found = []
    for index, row in enumerate(comparison.rows):
        whole = [record.run.content() for record in row.records if record.state != "damaged"]
        measured = [content.measured_probes for content in whole]
        series = {}
        for name in sorted({name for tables in measured for name in tables}):
            tables = [tables[name] for tables in measured if name in tables]
            if tables[0].columns[0] == "step" and tables[0].rows:
                series[name] = _series(tables)
        fields = [tables["field"] for tables in measured if "field" in tables]
        if series or fields:
            found.append({"row": index, "series": series, "field": _field(fields) if fields else None})
    return found


def _series(tables: Sequence[Table]) -> dict[str, Any]:
    """Return the mean of each quantity over the tables that have the same steps and things as the longest."""
    import numpy as np

    first = max(tables, key=lambda table: len(table.rows))
    about = first.columns[1]
    same = [t for t in tables if [row[:2] for row in t.rows] == [row[:2] for row in first.rows]]
    steps, things = (list(dict.fromkeys(first.column(column))) for column in ("step", about))
    kept = sorted(set(np.linspace(0, len(steps) - 1, MOST_STEPS).round().astype(int).tolist()))
    quantities = {}
    for quantity in first.columns[2:]:
        shape = (len(same), len(steps), len(things))
        values = np.array([table.column(quantity) for table in same], dtype=np.float64).reshape(shape)
        mean = values.mean(0)[kept].T
        quantities[quantity] = [[_rounded(value) for value in row] for row in mean.tolist()]
    return {
        "about": about,
        "steps": [steps[i] for i in kept],
        "things": [str(thing) for thing in things],
        "runs": len(same),
        "quantities": quantities,
    }


def _field(tables: Sequence[Table]) -> dict[str, Any]:
    """Return the mean pictures in percent of their largest value, as (rows, columns)."""
    import numpy as np

    first = tables[0]
    same = [table for table in tables if len(table.rows) == len(first.rows)]
    h, w = (int(max(float(place) for place in first.column(column))) + 1 for column in ("row", "column"))
    pictures: dict[str, Any] = {"runs": len(same)}
    for when in ("start", "end"):
        pixels = np.array([table.column(when) for table in same], dtype=np.float64)
        mean = _coarse(pixels.mean(0).reshape(h, w))
        pictures[when] = (100 * mean / (mean.max() or 1)).round().astype(int).tolist()
    return pictures


def _coarse(picture: NDArray[float64]) -> NDArray[float64]:
    """Return a picture of at most MOST_PIXELS rows and columns; pixels at the edge may be left out."""
    import numpy as np

    factor = -(-max(picture.shape) // MOST_PIXELS)
    h, w = (side // factor for side in picture.shape)
    squares = picture[: h * factor, : w * factor].reshape(h, factor, w, factor)
    return np.asarray(squares.mean((1, 3)))


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
