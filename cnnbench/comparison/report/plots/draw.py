"""Draw and write all plots of a comparison."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import MEASURED
from cnnbench.comparison.report.plots import effects, measured, responses, trained
from cnnbench.comparison.report.plots.style import Picture
from cnnbench.errors import InputError
from cnnbench.run_store import targets


def installed() -> bool:
    """Return True if matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check(folder: str) -> None:
    """Check, before anything is computed, that plots can be drawn and written.

    Raises:
        InputError: matplotlib is not installed, or the folder has no name or cannot be written.
    """
    if not folder:
        raise InputError("--plots: the name is empty; allowed: a folder")
    if not installed():
        raise InputError("--plots: needs matplotlib; run `pip install 'cnnbench[plots]'`")
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
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(parents=True, exist_ok=True)
    style: Any = {
        "font.size": 9,
        "text.parse_math": False,  # a dollar sign in a name is not markup
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "cnnbench",  # equal comparisons give equal files
    }
    written = []
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in the PNG; the SVG keeps the text
        for name, size, draw in _pictures(comparison):
            canvas = Canvas(figsize=size, layout="constrained")
            draw(canvas.add_subplot())
            for suffix, options in ((".png", {"dpi": 300}), (".svg", {"metadata": {"Date": None}})):
                canvas.savefig(folder / f"{name}{suffix}", **options)
            written.append(folder / f"{name}.png")
    return written


def _pictures(comparison: Comparison) -> Iterator[Picture]:
    yield from (measured if comparison.kind is MEASURED else trained).pictures(comparison)
    yield from responses.pictures(comparison)
    yield from effects.pictures(comparison)
