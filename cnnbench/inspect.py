"""`cnnbench inspect arch=… data=…`: the model, layer by layer, without training it or reading images."""

from __future__ import annotations

import json
import sys
from typing import Any

from omegaconf import DictConfig

from cnnbench import compose, ui
from cnnbench.errors import InputError
from cnnbench.settings import Settings, parse, plain

HELP = """\
usage: cnnbench inspect [--json] [GROUP=CHOICE …] [SETTING=VALUE …]

Show the model that `cnnbench train` with the same groups and settings would train: of each layer the output
shape, parameters and multiply-accumulates (MACs) of one image, and the totals. Nothing is trained, read or
downloaded, arch.weights neither.

  --json    one JSON object on standard output: params, macs, layers, …

cnnbench train --help lists groups, choices and settings."""


def main(arguments: list[str]) -> int:
    """Print the model that the settings describe; with --json as one JSON object on standard output."""
    if "--help" in arguments or "-h" in arguments:
        print(HELP)
        return 0
    as_json = "--json" in arguments
    rest = [word for word in arguments if word != "--json"]
    if any(word in (*compose.MULTIRUN, "hydra.mode=MULTIRUN") for word in rest):
        raise InputError("inspect shows one model; -m sweeps belong to `cnnbench train`")
    problem: list[InputError] = []

    def task(config: DictConfig) -> None:
        try:
            with ui.console.status("building"):
                found = describe(parse(plain(config)))
        except InputError as error:
            problem.append(error)
            return
        if as_json:
            json.dump(found, sys.stdout, indent=1)
            print()
        else:
            ui.out.print(ui.model_table(found))

    compose.run(task, "train", rest)
    if problem:
        raise problem[0]
    return 0


def describe(settings: Settings) -> dict[str, Any]:
    """The model's input, cost and layers, as plain values.

    Raises:
        InputError: whatever is wrong with the settings.
    """
    from cnnbench import macs, network

    model, shape, classes, facts = network.sketch(settings)
    return {
        "arch": settings.arch.name,
        "data": settings.data.name,
        "input": list(shape),
        "classes": classes,
        "ops": settings.resolved_ops(),
        **facts,
        "layers": [
            {"name": x.name, "kind": x.kind, "output": list(x.output), "params": x.params, "macs": x.macs}
            for x in macs.layers(model, shape)
        ],
    }
