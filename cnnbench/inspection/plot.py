"""Receptive fields and the sides of feature maps over depth, of several models in one figure."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.pages.plot_style import SAVED, check_installed, colour, drawing, logarithmic, marker
from cnnbench.run_store.targets import check_target

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def check(target: str) -> None:
    """Check, before anything is computed, that a plot can be drawn and written.

    Raises:
        InputError: matplotlib is not installed, the format is unknown, or the file cannot be written.
    """
    suffix = Path(target).suffix
    if suffix not in SAVED:
        raise InputError(f"--plot {target}: no such format; allowed: a file name with {', '.join(SAVED)}")
    check_installed("--plot")
    check_target("--plot", target, stream=False)


def points(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is drawn of each layer that returns a map, in the order of execution.

    Returns:
        `depth`, its number among them from 1; `name`; `side` of the map in pixels; and of its field relative
        to the image `largest` and `smallest` by any path, None where it grows with the image or is not known.
    """
    found: list[dict[str, Any]] = []
    for layer in model["layers"]:
        field = layer["receptive_field"]
        if len(layer["output"]) == 3 and field is not None:
            found.append(
                {
                    "depth": len(found) + 1,
                    "name": layer["name"],
                    "side": max(layer["output"][1:]),
                    "largest": _relative(field["size"], model["input"]),
                    "smallest": _relative(field["narrowest"], model["input"]),
                }
            )
    return found


def _relative(sizes: Sequence[float | None], shape: Sequence[int]) -> float | None:
    """Return the larger of rows and columns relative to an image (C, H, W)."""
    known = [size / side for size, side in zip(sizes, shape[1:], strict=True) if size is not None]
    return max(known) if len(known) == 2 else None


def draw(models: Sequence[Mapping[str, Any]], suffix: str) -> bytes:
    """Return a figure of models in a format of `SAVED`."""
    from matplotlib.figure import Figure

    with drawing():
        canvas = Figure(figsize=(6.5, 6), layout="constrained")
        fields, sides = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for i, model in enumerate(models):
            _draw_model(fields, sides, model, i)
        logarithmic(fields, "y")
        logarithmic(sides, "y")
        fields.axhline(1, color="black", lw=0.8)
        fields.set(ylabel="receptive field / side of the image")
        note = "line: by the largest path; dashed: by the smallest; triangles: grows with the image"
        fields.set_title(note, fontsize=7, loc="left")
        sides.set(xlabel="layer with a feature map, in the order of execution", ylabel="side of the map [px]")
        fields.legend(frameon=False, fontsize=7)
        file = io.BytesIO()
        canvas.savefig(file, format=suffix.removeprefix("."), **SAVED[suffix])
    return file.getvalue()


def _draw_model(fields: Axes, sides: Axes, model: Mapping[str, Any], i: int) -> None:
    found, ink = points(model), colour(i)
    known = [point for point in found if point["largest"] is not None]
    narrow = [point for point in found if point["smallest"] is not None]
    boundless = [point["depth"] for point in found if point["largest"] is None]
    label = console.legible(f"{model['label']}, {'x'.join(map(str, model['input'][1:]))} px")
    depths = [point["depth"] for point in known]
    every = max(1, len(known) // 12)
    fields.plot(
        depths, [point["largest"] for point in known], color=ink, lw=1.4, marker=marker(i), ms=3.5,
        markevery=every, label=label,
    )  # fmt: skip
    if any(point["largest"] != point["smallest"] for point in narrow):
        fields.plot(
            [point["depth"] for point in narrow], [point["smallest"] for point in narrow],
            color=ink, lw=0.8, ls="--",
        )  # fmt: skip
    if boundless:
        top = fields.get_xaxis_transform()
        fields.plot(
            boundless, [1.0] * len(boundless), "^", color=ink, ms=3, alpha=0.6, transform=top, clip_on=False
        )
    sides.plot(
        [point["depth"] for point in found], [point["side"] for point in found], color=ink, lw=1.4,
        marker=marker(i), ms=3.5, markevery=max(1, len(found) // 12), drawstyle="steps-post",
    )  # fmt: skip
