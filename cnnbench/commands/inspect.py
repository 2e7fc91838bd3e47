"""`cnnbench inspect arch=… data=…`: show a model layer by layer, without training or images."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.settings import compose
from cnnbench.settings.described import described
from cnnbench.settings.run import Settings

HELP = """\
usage: cnnbench inspect [--json] [GROUP=CHOICE …] [SETTING=VALUE …]

Show the model that `cnnbench train` would train with the same groups and settings: the output shape, the
parameters and the multiply-accumulates (MACs) per image of each layer, and the totals. Nothing is trained,
read or downloaded, not even arch.weights.

  --json    print one JSON object on standard output: params, macs, layers, …

cnnbench train --help lists groups, choices and settings."""


def main(arguments: list[str]) -> int:
    """Print the model that the settings describe; with --json as one JSON object on standard output."""
    if "--help" in arguments or "-h" in arguments:
        print(HELP)
        return 0
    as_json = "--json" in arguments
    rest = [word for word in arguments if word != "--json"]
    if any(word in (*compose.MULTIRUN, "hydra.mode=MULTIRUN") for word in rest):
        raise InputError("inspect shows one model; sweeps with -m belong to `cnnbench train`")
    settings = described(rest)
    if settings is None:
        return 0
    with console.console.status("building the model"):
        model = describe(settings)
    if as_json:
        json.dump(model, sys.stdout, indent=1)
        print()
    else:
        console.out.print(model_table(model))
    return 0


def describe(settings: Settings) -> dict[str, Any]:
    """Return the input, cost and layers of a model as plain values.

    Raises:
        InputError: wrong settings.
    """
    from cnnbench.models import complexity
    from cnnbench.training import model as training_model

    model, shape, classes, facts = training_model.sketch(settings)
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
                "output": list(layer.output),
                "params": layer.params,
                "macs": layer.macs,
            }
            for layer in complexity.layers(model, shape)
        ],
    }


def model_table(model: Mapping[str, Any]) -> Table:
    """Return a table with one row per layer, and the totals, of what `describe` returns."""
    shape, ops = "x".join(map(str, model["input"])), model["ops"]
    title = f"{model['arch']} on {model['data']}: {shape}, {model['classes']} classes"
    caption = [" ".join(f"{axis}={value}" for axis, value in ops.items()), model.get("init", "")]
    table = Table(
        title=title,
        caption="\n".join(filter(None, caption)) or None,
        box=box.SIMPLE_HEAD,
        show_footer=True,
        title_justify="left",
        caption_justify="left",
    )
    layers = model["layers"]
    table.add_column("layer", f"{len(layers)} layers")
    table.add_column("kind")
    table.add_column("output", justify="right")
    table.add_column("params", f"{model['params']:,}", justify="right")
    table.add_column("MACs", f"{model['macs']:,}", justify="right")
    for layer in layers:
        cells = [f"{layer[key]:,}" if layer[key] else "" for key in ("params", "macs")]
        table.add_row(layer["name"], layer["kind"], "x".join(map(str, layer["output"])) or "-", *cells)
    return table
