"""Pictures that are tables of small images, drawn with matplotlib."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cnnbench.console import legible
from cnnbench.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float32]

SIDE, LABEL, LINE, MARGIN = 1.05, 1.5, 0.135, 0.06
"""Inches: a tile's side, the column of labels, a line of text, and the space between tiles."""

DPI = 130
GOOD, BAD, INK, EDGE, BOX = "#17713a", "#b3261e", "#333a45", "#b0b6c0", "#00b3ff"


@dataclass(frozen=True)
class Tile:
    """A small image with a caption.

    Attributes:
        pixels: (H, W), drawn in `colours` between `low` and `high`; or (H, W, 3) in [0, 1].
        caption: lines below it.
        good: whether the caption is of something right; None: neither.
        heat: (h, w) in [0, 1], laid over it.
        box: first row, first column, rows and columns of a part; the rest is faded.
    """

    pixels: Array
    caption: str = ""
    colours: str = "gray"
    low: float = 0.0
    high: float = 1.0
    good: bool | None = None
    heat: Array | None = None
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Row:
    """Tiles beside each other, behind a label of up to four lines; None leaves a place empty."""

    label: str
    tiles: Sequence[Tile | None] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """A picture for the user.

    Attributes:
        name: of its file, without suffix.
        title: of a few words.
        caption: what it shows, and how to read it.
        rows: its tiles.
    """

    name: str
    title: str
    caption: str
    rows: Sequence[Row]


def check() -> None:
    """Check that matplotlib is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError("explain: needs matplotlib; run `pip install 'cnnbench[explain]'`")


def photo(pixels: Tensor, **options: Any) -> Tile:
    """Return a tile of an image, uint8 (1 or 3, H, W)."""
    values: Array = (pixels.float() / 255).numpy()
    return Tile(values[0] if len(values) == 1 else values.transpose(1, 2, 0), **options)


def png(picture: Picture) -> bytes:
    """Draw a picture, and return it as PNG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = max((len(row.tiles) for row in picture.rows), default=1)
    heights = [SIDE + LINE * _lines(row) + 2 * MARGIN for row in picture.rows]
    label = LABEL if any(row.label for row in picture.rows) else MARGIN
    width, height = label + columns * (SIDE + MARGIN) + MARGIN, sum(heights) + MARGIN
    style: Any = {"font.size": 7.5, "font.family": "sans-serif", "text.parse_math": False}  # $ is no markup
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in its place
        figure = Figure(figsize=(width, height), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1))  # one for all tiles, in inches: an axes for each takes seconds
        axes.set_axis_off()
        top = height - MARGIN
        for row, row_height in zip(picture.rows, heights, strict=True):
            bottom = top - MARGIN - SIDE
            lines = "\n".join(legible(line, 26) for line in row.label.split("\n"))
            axes.text(label - 0.1, bottom + SIDE / 2, lines, ha="right", va="center")
            for i, tile in enumerate(row.tiles):
                if tile is not None:
                    _draw(axes, tile, label + i * (SIDE + MARGIN), bottom)
            top -= row_height
        axes.set(xlim=(0, width), ylim=(0, height), aspect="auto")
        file = io.BytesIO()
        figure.savefig(file, dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _lines(row: Row) -> int:
    captions = [tile.caption for tile in row.tiles if tile is not None and tile.caption]
    return max((caption.count("\n") + 1 for caption in captions), default=0)


def _draw(axes: Axes, tile: Tile, left: float, bottom: float) -> None:
    """Draw a tile whose lower left corner is given, in inches; what is not square is centred."""
    from matplotlib.patches import Rectangle

    h, w = tile.pixels.shape[:2]
    unit = SIDE / max(h, w)
    x, top = left + (SIDE - w * unit) / 2, bottom + (SIDE + h * unit) / 2
    where: Any = {"extent": (x, x + w * unit, top - h * unit, top), "interpolation": "nearest"}
    axes.imshow(tile.pixels, cmap=tile.colours, vmin=tile.low, vmax=tile.high, **where)
    if tile.heat is not None:  # where there is no evidence the image stays as it is
        opacity = 0.75 * np.clip(tile.heat, 0, 1)
        axes.imshow(tile.heat, cmap="inferno", vmin=0, vmax=1, alpha=opacity, **where)
    axes.add_patch(
        Rectangle((x, top - h * unit), w * unit, h * unit, fill=False, edgecolor=EDGE, linewidth=0.5)
    )
    if tile.box is not None:
        first_row, first_column = max(tile.box[0], 0), max(tile.box[1], 0)
        rows = min(tile.box[0] + tile.box[2], h) - first_row
        columns = min(tile.box[1] + tile.box[3], w) - first_column
        faded = np.ones((h, w, 4), dtype=np.float32)
        faded[..., 3] = 0.55
        faded[first_row : first_row + rows, first_column : first_column + columns, 3] = 0
        axes.imshow(faded, **where)
        corner = (x + first_column * unit, top - (first_row + rows) * unit)
        axes.add_patch(
            Rectangle(corner, columns * unit, rows * unit, fill=False, edgecolor=BOX, linewidth=1.2)
        )
    if tile.caption:
        colour = {True: GOOD, False: BAD, None: INK}[tile.good]
        lines = "\n".join(legible(line, 20) for line in tile.caption.split("\n"))
        axes.text(left + SIDE / 2, bottom - 0.03, lines, ha="center", va="top", color=colour, size=6.5)
