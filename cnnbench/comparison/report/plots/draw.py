"""Draw and write all plots of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import MEASURED
from cnnbench.comparison.report.plots import effects, fields, measured, responses, trained
from cnnbench.comparison.report.plots.picture import Picture
from cnnbench.errors import InputError
from cnnbench.pages.plot_style import SAVED, check_installed, drawing
from cnnbench.run_store import targets


def check(folder: str) -> None:
    """Check, before anything is computed, that plots can be drawn and written.

    Raises:
        InputError: matplotlib is not installed, or the folder has no name or cannot be written.
    """
    if not folder:
        raise InputError("--plots: the name is empty; allowed: a folder")
    check_installed("--plots")
    targets.check_folder("--plots", folder)


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw all plots of a comparison, each as PNG (300 dpi) and as SVG.

    Args:
        comparison: the comparison.
        folder: the folder for the files; it is created if necessary.

    Returns:
        The PNG files.

    Raises:
        OSError: a file cannot be written.
    """
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with drawing():
        for name, size, draw in _pictures(comparison):
            canvas = Canvas(figsize=size, layout="constrained")
            draw(canvas.add_subplot())
            for suffix in (".png", ".svg"):
                canvas.savefig(folder / f"{name}{suffix}", **SAVED[suffix])
            written.append(folder / f"{name}.png")
    return written


def _pictures(comparison: Comparison) -> Iterator[Picture]:
    yield from (measured if comparison.kind is MEASURED else trained).pictures(comparison)
    yield from fields.pictures(comparison)
    yield from responses.pictures(comparison)
    yield from effects.pictures(comparison)
