"""`cnnbench inspect arch=… data=…`: the model, layer by layer, without training it or reading images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cnnbench import compose, ui
from cnnbench.errors import InputError, OpsError
from cnnbench.settings import Settings, parse

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
                found = describe(parse(config))
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
    import torch

    from cnnbench import macs, network

    channels, size, classes = image_facts(settings)
    shape = (channels, size, size)
    try:
        with torch.device("meta"):  # nothing is allocated, nothing is drawn
            model, facts = network.make(settings, shape, classes, settings.data.batch_size)
    except OpsError:
        raise
    except InputError:  # models of other libraries may not be made for it
        model, facts = network.make(settings, shape, classes, settings.data.batch_size)
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


def image_facts(settings: Settings) -> tuple[int, int, int]:
    """Channels, side and classes that a model must fit, without reading or downloading images.

    Raises:
        InputError: the data set is unknown, or its images differ in size and `data.size` is null.
    """
    from cnnbench.data.folder import scan
    from cnnbench.data.sets import dataset

    data = settings.data
    found = dataset(data.name)
    size, classes = data.size or found.size, data.num_classes or found.classes
    if data.name == "imagefolder":
        classes = len(next(iter(scan(Path(data.root).expanduser()).values())).classes)
    if size is None:
        raise InputError(
            f"data.size=null: the images of {data.name} differ in size; allowed: 4 or more pixels"
        )
    assert classes is not None
    return settings.arch.in_channels or len(found.mean), size, classes
