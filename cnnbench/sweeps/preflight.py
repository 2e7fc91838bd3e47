"""Whether the runs of a sweep can be made, and how long they should take; asked before the first one starts.

Settings alone do not tell whether a model fits the images or whether the images are there. Each model, data
set and recipe of the sweep is tried once, whatever the number of runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from cnnbench.bench.check import check_possible
from cnnbench.errors import InputError
from cnnbench.settings.bench import Bench
from cnnbench.settings.run import Settings
from cnnbench.sweeps.pool import Report
from cnnbench.training import model as training_model
from cnnbench.training.build import make_classifier, make_data
from cnnbench.training.device import DEVICE_TYPES, place, resolve
from cnnbench.training.rank import Rank

MEASURED_MACS = 20e9
"""Training steps of fewer multiply-accumulates are tried, to see how long they take."""


GUESSED_S = 2e-11
"""Seconds for a multiply-accumulate, forwards and backwards, where none was measured."""


def check(asked: Sequence[Settings], cores: int, here: bool) -> Report:
    """Try the models, the data and the recipes of runs.

    Args:
        asked: the runs.
        cores: how many each of them will have.
        here: they will be trained on this machine: its devices and data sets are looked at, too.
    """
    found = Report(gpus=torch.cuda.device_count(), mps=torch.backends.mps.is_available())
    once = _Once()
    rates: list[float] = []
    for i, settings in enumerate(asked):
        try:
            if isinstance(settings, Bench):
                if here:
                    device = resolve(settings.device, None, cores, settings.arch.layout)
                    check_possible(settings, device["accelerator"])
                once(_key(settings, "arch", "ops", "data"), partial(_sketch, settings))
                continue
            once(_key(settings, "optimizer", "scheduler", "trainer"), partial(_recipe, settings))
            images, val = 0, 0
            if here:
                settings.device.check_one_machine()
                device = resolve(settings.device, None, cores, settings.arch.layout)
                looked_at = (*_key(settings, "data", "device"), settings.arch.in_channels)
                images, val = once(looked_at, partial(_count, settings))
            model = _key(settings, "arch", "ops", "device") + _key(settings, "data")
            step = once(model, partial(_sketch, settings))
            if here:
                macs = step.macs * step.batch
                if step.seconds is None and macs < MEASURED_MACS:
                    step.seconds = _measure(step, device)
                    rates.append(step.seconds / macs)
                seconds = step.seconds or macs * (rates[-1] if rates else GUESSED_S)
                found.epoch_s[i] = seconds / step.batch * (images + val / 3) / settings.device.devices
        except InputError as error:
            found.errors[i] = str(error)
    return found


@dataclass
class _Step:
    """A training step of a model: `macs` of one image, forwards; `seconds` once it was measured."""

    model: nn.Module
    shape: tuple[int, int, int]
    batch: int
    macs: int
    seconds: float | None = None


class _Once:
    """Remembers what was made, or why it cannot be made."""

    def __init__(self) -> None:
        self.known: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self.known:
            try:
                self.known[key] = make()
            except InputError as error:
                self.known[key] = error
        found = self.known[key]
        if isinstance(found, InputError):
            raise found
        return found


def _key(settings: Settings, *sections: str) -> tuple[str, ...]:
    choice = settings.choice() | {"root": settings.data.root}
    return tuple(json.dumps(choice[name], sort_keys=True) for name in (*sections, "root"))


def _recipe(settings: Settings) -> None:
    make_classifier(settings, nn.Identity(), num_classes=10, batches=100, frozen=[])


def _count(settings: Settings) -> tuple[int, int]:
    """Images for training and for val; they are downloaded, once, if they have to be."""
    found = settings.data.model_copy(update={"in_memory": False})  # files are listed, not decoded
    rank = Rank(world=settings.device.devices * settings.device.nodes)
    data = make_data(found, settings.arch, settings.seed, rank, settings.device.least_images)
    return len(data.train.labels), len(data.val.labels)


def _sketch(settings: Settings) -> _Step:
    model, shape, _, facts = training_model.sketch(settings)
    return _Step(model, shape, min(settings.data.batch_size, 64), facts["macs"])


def _measure(step: _Step, device: dict[str, Any]) -> float:
    """Seconds of a training step: the second one, as the first also sets things up.

    A model that does not survive it is left to its run, which has a log.
    """
    try:
        return _step_s(step, device)
    except Exception:  # of any model's code
        return step.macs * step.batch * GUESSED_S
    finally:
        step.model = nn.Identity()  # let go of the memory


def _step_s(step: _Step, device: dict[str, Any]) -> float:
    where = DEVICE_TYPES[device["accelerator"]]
    model = place(step.model.to_empty(device=where), device | {"compile": False}).train()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(0.01)  # empty memory may hold numbers that are slow to compute with
    images = torch.rand(step.batch, *step.shape, device=where, dtype=next(model.parameters()).dtype)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        output = model(images)
        loss = sum(o.float().sum() for o in (output if isinstance(output, tuple) else (output,)))
        loss.backward()
        float(loss.detach())  # waits for the device
        seconds = time.perf_counter() - start
    return seconds
