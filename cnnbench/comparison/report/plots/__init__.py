"""The comparison as pictures for a paper: PNG and SVG, by matplotlib."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.metrics import MEASURED
from cnnbench.comparison.report.plots import effects, measured, trained
from cnnbench.comparison.report.plots.style import Picture
from cnnbench.errors import InputError
from cnnbench.run_store import files


def installed() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def check(folder: str) -> None:
    """To be called before anything is computed.

    Raises:
        InputError: no folder, one that cannot be written to, or matplotlib is not installed.
    """
    if not folder:
        raise InputError("--plots: no name of a folder; allowed: a folder")
    if not installed():
        raise InputError("--plots: needs matplotlib; run `pip install 'cnnbench[plots]'`")
    files.check_folder("--plots", folder)


def write(found: Comparison, folder: Path) -> list[Path]:
    """Draw what there is to draw, each picture as PNG (300 dpi) and as SVG.

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
        "text.parse_math": False,  # a dollar sign in a name is a dollar sign
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "cnnbench",  # the same comparison gives the same file
    }
    written = []
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in the PNG; the SVG has the text
        for name, size, draw in _pictures(found):
            canvas = Canvas(figsize=size, layout="constrained")
            draw(canvas.add_subplot())
            for suffix, options in ((".png", {"dpi": 300}), (".svg", {"metadata": {"Date": None}})):
                canvas.savefig(folder / f"{name}{suffix}", **options)
            written.append(folder / f"{name}.png")
    return written


def _pictures(found: Comparison) -> Iterator[Picture]:
    yield from (measured if found.kind is MEASURED else trained).pictures(found)
    yield from effects.pictures(found)
