"""`cnnbench inspect … --linear LAYER`: a layer as a matrix, with most weights zero and the others shared."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from string import ascii_letters
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.errors import InputError, suggest
from cnnbench.pages.plot_style import SAVED, drawing
from cnnbench.run_store.targets import writing
from cnnbench.settings.run import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

ROWS, COLUMNS = 64, 100
"""Largest block of a matrix that is shown in the terminal."""

PIXELS, ENTRIES = 1200, 4_000_000
"""Side of a picture at most, and non-zero entries of a whole matrix in it; with more, a block is shown."""

COLOURS = ("red", "green", "yellow", "blue", "magenta", "cyan")
"""Of the letters in the terminal, in turn."""


def show(settings: Settings, name: str, *, as_json: bool, plot: str | None) -> int:
    """Print what a layer is as a matrix, draw it if asked for, and return the exit code.

    Args:
        settings: of the model.
        name: of the layer.
        as_json: as one JSON object on standard output.
        plot: file for a picture, which can be written.

    Raises:
        InputError: as `describe`.
    """
    with console.console.status("building the model"):
        found, layer = describe(settings, name)
    shape = tuple(found["input"])
    with writing(plot) as file:
        if file is not None and plot is not None:
            file.write(picture(layer, shape, found, Path(plot).suffix))
    if as_json:
        json.dump(found, sys.stdout, indent=1)
        print()
        return 0
    console.out.print(table(found))
    if (text := letters(layer, shape)) is not None:
        for line in text.split():
            console.out.print(line, soft_wrap=True, highlight=False)
    return 0


def describe(settings: Settings, name: str) -> tuple[dict[str, Any], nn.Module]:
    """Return what a layer is as a matrix, as plain values, and the layer itself.

    Args:
        settings: of the model.
        name: of the layer.

    Raises:
        InputError: wrong settings, no such layer, or one that is no linear map.
    """
    from cnnbench.models.linear_map import counts
    from cnnbench.training import model as training_model

    model, shape, classes, _ = training_model.sketch(settings)
    given = inputs(model, shape)
    if name not in given:
        kinds = {name: type(layer).__name__ for name, layer in model.named_modules() if name}
        problem = f"{kinds[name]} is no linear map" if name in kinds else "no such layer"
        raise InputError(f"--linear {name}: {problem}; {suggest(name, given)}")
    if any(tensor.is_meta for tensor in model.get_submodule(name).buffers()):  # fixed weights, as of a blur
        model, _ = training_model.make(settings, shape, classes, settings.data.batch_size)
    layer = model.get_submodule(name)
    found = counts(layer, given[name])
    bias = getattr(layer, "bias", None)
    return {
        "arch": settings.arch.name,
        "data": settings.data.name,
        "layer": name,
        "kind": type(layer).__name__,
        "input": list(given[name]),
        "output": list(found.output),
        "unconstrained": found.unconstrained,
        "nonzero": found.nonzero,
        "free": found.free,
        "biases": 0 if bias is None else bias.numel(),
    }, layer


def inputs(model: nn.Module, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """Return the shape of the input, for one image, of each layer that is a linear map, by name.

    Args:
        model: any classifier.
        shape: (C, H, W) of the image.
    """
    from torch import nn

    from cnnbench.models import complexity
    from cnnbench.models.linear_map import is_linear

    found: dict[str, tuple[int, ...]] = {}
    names = {layer: name for name, layer in model.named_modules() if is_linear(layer)}

    def record(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if arguments[0].ndim == (2 if isinstance(layer, nn.Linear) else 4):
            found.setdefault(names[layer], tuple(arguments[0].shape[1:]))

    hooks = [layer.register_forward_pre_hook(record) for layer in names]
    complexity.forward(model, shape, 1, next((p.device.type for p in model.parameters()), "cpu"))
    for hook in hooks:
        hook.remove()
    return found


def table(found: Mapping[str, Any]) -> Table:
    """Return the table of what `describe` returns."""
    sides = " to ".join("x".join(map(str, found[key])) for key in ("input", "output"))
    title = f"{found['layer']} ({found['kind']}) of {found['arch']} on {found['data']}: {sides}"
    rows = [
        ("weights of the fully connected layer between these maps", "unconstrained"),
        ("of them not fixed at zero: local connections", "nonzero"),
        ("free: learned weights that they consist of", "free"),
    ]
    whole = found["unconstrained"]
    cells = [(text, f"{found[key]:,}", f"{100 * found[key] / whole:.3g} %") for text, key in rows]
    return console.fitting(("as a matrix", "weights", "share"), cells, labels=1, title=title)


def block(layer: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, tuple[int, ...]]:
    """Return the part of a layer that leads from its first channel to its first, and the shape of its input.

    All blocks of its matrix have the same pattern, but for groups, between which there is none. A fully
    connected layer is a single block.
    """
    from torch import nn

    from cnnbench.ops.local import LocallyConnected2d

    if isinstance(layer, nn.Linear):
        return layer, shape
    part = copy.deepcopy(layer)
    if isinstance(part, nn.Conv2d | LocallyConnected2d):
        taps = math.prod(part.kernel_size)
        local = isinstance(part, LocallyConnected2d)
        part.weight = nn.Parameter(part.weight[:, :1, :taps] if local else part.weight[:1, :1])
        part.in_channels = part.out_channels = part.groups = 1
        part.bias = part.shift = None
    return part, (1, *shape[1:])


def numbered(layer: nn.Module, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Return where the matrix of a layer is not zero, which weight stands there, and its size.

    Args:
        layer, shape: as of `cnnbench.models.linear_map.linear_map`; weights may lie on the meta device.

    Returns:
        Rows and columns (2, entries); numbers of the weights from 1, or 0 where several meet or none is
        learned (entries,); and (outputs, inputs).
    """
    import torch
    from torch import nn

    from cnnbench.models.linear_map import linear_map

    learned = getattr(layer, "weight", None) if list(layer.parameters()) else None
    if learned is None:
        found = linear_map(layer, shape).matrix
        return found.indices(), torch.zeros_like(found.values()).long(), (found.shape[0], found.shape[1])
    part, maps = copy.deepcopy(layer), []
    for numbers in (torch.arange(1, learned.numel() + 1), torch.ones(learned.numel())):
        part.weight = nn.Parameter(numbers.double().view(learned.shape), requires_grad=False)
        part.bias = part.shift = None  # type: ignore[assignment]
        maps.append(linear_map(part, shape).matrix)
    found, together = maps
    only = torch.where(together.values() > 1, 0, found.values().long())
    return found.indices(), only, (found.shape[0], found.shape[1])


def letters(layer: nn.Module, shape: tuple[int, ...]) -> Text | None:
    """Return a block of the matrix in letters, the same letter for the same weight; None: it is too large."""
    part, given = block(layer, shape)
    if math.prod(given) > min(COLUMNS, console.out.width - 1) or len(given) == 1:
        return None
    (rows, columns), numbers, (height, width) = numbered(part, given)
    if height > ROWS:
        return None
    names = ascii_letters if int(numbers.max()) <= len(ascii_letters) else ""
    grid = [["."] * width for _ in range(height)]
    for row, column, number in zip(rows.tolist(), columns.tolist(), numbers.tolist(), strict=True):
        grid[row][column] = names[number - 1] if number and names else "#"
    text = Text()
    for line in grid:
        for letter in line:
            known = ascii_letters.find(letter)
            text.append(letter, COLOURS[known % len(COLOURS)] if known >= 0 else "dim" * (letter == "."))
        text.append("\n")
    meaning = "the same letter is the same weight" if names else "# is a weight of its own or one not learned"
    if names and not bool(numbers.all()):
        meaning += ", # a sum of several or one that is not learned"
    return text.append(f"the block between two channels, {height} x {width}: . is zero, {meaning}", "dim")


def picture(layer: nn.Module, shape: tuple[int, ...], found: Mapping[str, Any], suffix: str) -> bytes:
    """Return the picture of a layer's matrix and of one of its blocks, a colour for each weight.

    Args:
        layer: a linear one.
        shape: of its input.
        found: what `describe` returns.
        suffix: of the format, one of `SAVED`.
    """
    from matplotlib.figure import Figure

    panels = [("the block between two channels", *numbered(*block(layer, shape)), "equal")]
    if len(shape) == 1:
        panels = [("the whole matrix", *panels[0][1:4], "auto")]
    elif found["nonzero"] <= ENTRIES:
        panels.insert(0, ("the whole matrix", *numbered(layer, shape), "auto"))
    counted = ", ".join(f"{found[key]:,} {text}" for key, text in (("nonzero", "not zero"), ("free", "free")))
    with drawing():
        figure = Figure(figsize=(6 * len(panels), 6.5), layout="constrained")
        figure.suptitle(
            f"{console.legible(found['layer'], 60)}: {found['unconstrained']:,} weights, {counted}"
        )
        for axes, (text, places, numbers, (height, width), aspect) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            image = _coloured(places, numbers, (height, width))
            axes.imshow(image, interpolation="nearest", extent=(0, width, height, 0), aspect=aspect)
            axes.set(title=f"{text}, {height:,} x {width:,}", xlabel="input, by channel and pixel")
            axes.set_ylabel("output, by channel and pixel")
            axes.grid(visible=False)
        file = BytesIO()
        figure.savefig(file, format=suffix.removeprefix("."), **SAVED[suffix])
    return file.getvalue()


def _coloured(places: Tensor, numbers: Tensor, size: tuple[int, int]) -> Any:
    """Return pixels (rows, columns, 3), white where the matrix is zero; large ones are reduced."""
    import numpy as np
    from matplotlib import colormaps

    down, across = (max(1, math.ceil(side / PIXELS)) for side in size)
    image = np.ones((-(-size[0] // down), -(-size[1] // across), 3))
    # Neighbours in number differ in colour: the golden ratio spreads them over the circle of hues.
    hues = colormaps["hsv"](numbers.numpy() * 0.618034 % 1.0)[:, :3] * 0.85
    rows, columns = places.numpy()
    image[rows // down, columns // across] = np.where(numbers.numpy()[:, None] > 0, hues, 0.15)
    return image
