"""Plot of effective receptive fields (arXiv:1701.04128), which `probes=field` measured: rows side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.report.plots.picture import Picture
from cnnbench.comparison.report.probes import probed_rows
from cnnbench.comparison.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 8
"""Rows that are drawn, the first ones."""

WHEN = {"start": "before training", "end": "after training"}

Fields = Sequence[tuple[Row, dict[str, Any]]]
"""Rows with what was measured of them."""


def pictures(comparison: Comparison) -> Iterator[Picture]:
    """Yield a plot of the fields before and after the training, if there are any."""
    found = [
        (comparison.rows[probed["row"]], probed["field"])
        for probed in probed_rows(comparison)
        if probed["field"] is not None
    ][:MOST]
    if found:
        yield "effective-fields", (0.4 + 1.5 * len(found), 3.6), _mosaic(found)


def _mosaic(found: Fields) -> Callable[[Axes], None]:
    """Return a function that draws a column for each row of the table; each picture has its own scale."""

    def draw(axes: Axes) -> None:
        axes.axis("off")
        width, height = 1 / len(found), 1 / len(WHEN)
        for i, (row, field) in enumerate(found):
            for j, (when, said) in enumerate(WHEN.items()):
                place = (i * width, 1 - (j + 1) * height, 0.9 * width, 0.72 * height)
                panel = axes.inset_axes(place)
                panel.imshow(field[when], cmap="inferno", vmin=0, vmax=100)
                panel.set(xticks=[], yticks=[])
                panel.grid(visible=False)
                size = row.mean(f"field/{when}")
                panel.set_xlabel("" if size is None else f"{size:.1f} px", fontsize=8)
                if j == 0:
                    panel.set_title(console.legible("\n".join(row.settings.values()), 48), fontsize=8)
                if i == 0:
                    panel.set_ylabel(said, fontsize=8)

    return draw
