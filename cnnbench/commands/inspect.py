"""`cnnbench inspect arch=… data=…`: show a model layer by layer, without training or images."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from cnnbench import console
from cnnbench.commands import linear
from cnnbench.errors import InputError
from cnnbench.settings import compose
from cnnbench.settings.described import described
from cnnbench.settings.run import Settings

if TYPE_CHECKING:
    from cnnbench.models.receptive_field import Field

HELP = """\
usage: cnnbench inspect [--json] [--linear LAYER [--plot FILE]] [GROUP=CHOICE …] [SETTING=VALUE …]

Show the model that `cnnbench train` would train with the same groups and settings, layer by layer: output
shape, receptive field, parameters, multiply-accumulates (MACs) per image, window (kernel/stride, padding),
share of the image that the unit in the middle sees, memory of the output per image; and the totals. The
field is the side in pixels of what a unit depends on: by the largest path, in brackets by the smallest where
they differ; `all`: it grows with the image. Nothing is trained, read or downloaded, not even arch.weights.

  --json          print one JSON object on standard output: params, macs, layers, …
  --linear LAYER  show a convolution, fully connected layer or linear pooling as the matrix that it is: how
                  many weights a fully connected layer would have, how many are not fixed at zero, how many
                  are free; and a block of the matrix, if it is small
  --plot FILE     draw that matrix, a colour for each weight; FILE ends in .png, .svg or .pdf

cnnbench train --help lists groups, choices and settings."""


def main(arguments: list[str]) -> int:
    """Print the model that the settings describe; with --json as one JSON object on standard output."""
    if "--help" in arguments or "-h" in arguments:
        print(HELP)
        return 0
    as_json = "--json" in arguments
    rest = [word for word in arguments if word != "--json"]
    layer, plot = option(rest, "--linear"), option(rest, "--plot")
    if any(word in (*compose.MULTIRUN, "hydra.mode=MULTIRUN") for word in rest):
        raise InputError("inspect shows one model; sweeps with -m belong to `cnnbench train`")
    settings = described(rest)
    if settings is None:
        return 0
    if layer is not None:
        return linear.show(settings, layer, as_json=as_json, plot=plot)
    if plot is not None:
        raise InputError(f"--plot {plot}: allowed with --linear LAYER alone")
    with console.console.status("building the model"):
        model = describe(settings)
    if as_json:
        json.dump(model, sys.stdout, indent=1)
        print()
    else:
        console.out.print(model_table(model))
        for remark in remarks(model):
            console.out.print(remark, style="dim", highlight=False, markup=False, soft_wrap=True)
    return 0


def option(words: list[str], name: str) -> str | None:
    """Take an option and its value, `NAME VALUE` or `NAME=VALUE`, out of the words; None: it is not there.

    Raises:
        InputError: it has no value.
    """
    for i, word in enumerate(words):
        if word == name and i + 1 < len(words):
            return [words.pop(i), words.pop(i)][1]
        if word.startswith(f"{name}="):
            return words.pop(i).partition("=")[2]
        if word == name:
            raise InputError(f"{name}: a value must follow; see cnnbench inspect --help")
    return None


def describe(settings: Settings) -> dict[str, Any]:
    """Return the input, cost and layers of a model as plain values.

    Raises:
        InputError: wrong settings.
    """
    from cnnbench.models import complexity
    from cnnbench.models.receptive_field import receptive_fields
    from cnnbench.training import model as training_model

    model, shape, classes, facts = training_model.sketch(settings)
    fields = receptive_fields(model, shape)
    return {
        "arch": settings.arch.name,
        "data": settings.data.name,
        "input": list(shape),
        "classes": classes,
        "ops": settings.resolved_ops(),
        **facts,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "window": None if layer.window is None else asdict(layer.window),
                "output": list(layer.output),
                "params": layer.params,
                "macs": layer.macs,
                "activation_bytes": layer.activation_bytes,
                "receptive_field": _plain(fields.layers.get(layer.name)),
            }
            for layer in complexity.layers(model, shape)
        ],
        "untraceable": fields.untraceable,
    }


def _plain(field: Field | None) -> dict[str, Any] | None:
    """Return a field as plain values by rows and columns; null stands for a size without bound."""
    if field is None or math.isnan(field.rows.size + field.columns.size):
        return None
    lines = [asdict(field.rows), asdict(field.columns)]
    plain = {
        key: [None if line[key] in (None, math.inf) else line[key] for line in lines] for key in lines[0]
    }
    return {**plain, "share": field.share}


def model_table(model: Mapping[str, Any]) -> Table:
    """Return a table with one row per layer of what `describe` returns."""
    layers = model["layers"]
    rows = [
        (
            layer["name"],
            layer["kind"],
            "x".join(map(str, layer["output"])) or "-",
            "" if (field := layer["receptive_field"]) is None else _field(field),
            *(f"{layer[key]:,}" if layer[key] else "" for key in ("params", "macs")),
            _window(layer["window"]),
            "" if field is None else f"{100 * field['share']:.3g} %",
            _memory(layer["activation_bytes"]) if layer["output"] else "",
        )
        for layer in layers
    ]
    shape = "x".join(map(str, model["input"]))
    return console.fitting(
        ("layer", "kind", "output", "field", "params", "MACs", "window", "sees", "memory"),
        rows,
        labels=2,
        title=f"{model['arch']} on {model['data']}: {shape}, {model['classes']} classes",
        least=2,
    )


def remarks(model: Mapping[str, Any]) -> list[str]:
    """Return lines on totals, ops, initialisation, where the field exceeds the image, what downsamples."""
    memory = _memory(sum(layer["activation_bytes"] for layer in model["layers"]))
    sizes = f"{model['params']:,} params, {model['macs']:,} MACs, outputs of {memory}"
    lines = [
        f"{len(model['layers'])} layers, {sizes}",
        " ".join(f"{axis}={value}" for axis, value in model["ops"].items()),
        model.get("init", ""),
    ]
    exceeding = [
        layer["name"]
        for layer in model["layers"]
        if (field := layer["receptive_field"])
        and field["share"] == 1
        and any(
            size is None or size > side for size, side in zip(field["size"], model["input"][1:], strict=True)
        )
    ]
    if exceeding:
        lines.append(f"the field exceeds the image from {exceeding[0]} on")
    strided = [
        f"{layer['name']} ({_sides(layer['window']['stride'])})"
        for layer in model["layers"]
        if layer["window"] and max(layer["window"]["stride"]) > 1
    ]
    if strided:
        lines.append(f"downsampling: {', '.join(strided)}")
    if model["untraceable"]:
        lines.append(f"fields are not known behind {model['untraceable']}")
    return [line for line in lines if line]


def _window(window: Mapping[str, Any] | None) -> str:
    """Return a window as `3x3/2 p1`."""
    if window is None:
        return ""
    kernel, padding, dilation = "x".join(map(str, window["kernel"])), window["padding"], window["dilation"]
    parts = [kernel + (f"/{_sides(window['stride'])}" if max(window["stride"]) > 1 else "")]
    if padding == "same" or max(padding):
        parts.append("same" if padding == "same" else f"p{_sides(padding)}")
    if max(dilation) > 1:
        parts.append(f"d{_sides(dilation)}")
    return " ".join(parts)


def _field(field: Mapping[str, Any]) -> str:
    largest, narrowest = _sides(field["size"]), _sides(field["narrowest"])
    return largest if largest == narrowest else f"{largest} ({narrowest})"


def _sides(pair: Sequence[float | None]) -> str:
    """Return rows and columns as `3`, or `3x1` where they differ; null: all of them."""
    rows, columns = ("all" if value is None else f"{value:g}" for value in pair)
    return rows if rows == columns else f"{rows}x{columns}"


def _memory(number: float) -> str:
    return f"{number / 2**20:.3g} MiB" if number >= 2**20 / 10 else f"{number / 2**10:.3g} KiB"
