"""Preflight of a sweep: tests of whether its runs are possible, and estimates of how long they take.

Settings alone do not show whether a model accepts the image size or whether the images exist. Each distinct
model, data set and training recipe of the sweep is tested once, however many runs share it.
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
from cnnbench.sweeps.pool import PreflightReport
from cnnbench.training import model as training_model
from cnnbench.training import pretrained
from cnnbench.training.accumulation import Accumulation
from cnnbench.training.build import make_classifier
from cnnbench.training.device import DEVICE_TYPES, place, resolve
from cnnbench.training.images import training_data
from cnnbench.training.loss import training_loss
from cnnbench.training.rank import Rank

MEASURED_MACS = 20e9
"""Training steps with fewer multiply-accumulates are timed; longer ones are estimated."""


GUESSED_S = 2e-11
"""Seconds for a multiply-accumulate, forward and backward pass, if none was timed."""


def check(runs: Sequence[Settings], cores: int, here: bool) -> PreflightReport:
    """Test the models, data and training recipes of runs.

    Args:
        runs: their settings.
        cores: CPU cores for each run.
        here: True if they will be trained on this machine, so that its devices and data are tested, too.
    """
    report = PreflightReport(gpus=torch.cuda.device_count(), mps=torch.backends.mps.is_available())
    once = _Once()
    rates: list[float] = []
    for i, settings in enumerate(runs):
        try:
            if isinstance(settings, Bench):
                if here:
                    device = resolve(settings.device, None, cores, settings.arch.layout)
                    check_possible(settings, device["accelerator"])
                once(_key(settings, "arch", "ops", "data"), partial(_training_step, settings))
                continue
            once(_key(settings, "optimizer", "scheduler", "trainer"), partial(_check_recipe, settings))
            train_images, val_images = 0, 0
            if here:
                settings.device.check_one_machine()
                device = resolve(settings.device, None, cores, settings.arch.layout)
                data_key = (*_key(settings, "data", "device"), settings.arch.in_channels)
                train_images, val_images, batches = once(data_key, partial(_count_images, settings))
                Accumulation(settings.trainer.accumulate, batches)
            model_key = _key(settings, "arch", "ops", "device") + _key(settings, "data")
            step = once(model_key, partial(_training_step, settings))
            if here:
                macs = step.macs * step.batch
                if step.seconds is None and macs < MEASURED_MACS:
                    step.seconds = _measure(step, device)
                    rates.append(step.seconds / macs)
                seconds = step.seconds or macs * (rates[-1] if rates else GUESSED_S)
                images = train_images + val_images / 3  # a forward pass takes a third of a training step
                report.epoch_s[i] = seconds / step.batch * images / settings.device.devices
        except InputError as error:
            report.errors[i] = str(error)
    return report


@dataclass
class _Step:
    """A training step of a model.

    Attributes:
        shape: of an image, (C, H, W).
        macs: multiply-accumulates of a forward pass of one image.
        seconds: of the step, once measured.
    """

    model: nn.Module
    shape: tuple[int, int, int]
    batch: int
    macs: int
    seconds: float | None = None


class _Once:
    """Cache of results and of InputErrors, by key."""

    def __init__(self) -> None:
        self.results: dict[Hashable, Any] = {}

    def __call__(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self.results:
            try:
                self.results[key] = make()
            except InputError as error:
                self.results[key] = error
        result = self.results[key]
        if isinstance(result, InputError):
            raise result
        return result


def _key(settings: Settings, *sections: str) -> tuple[str, ...]:
    choice = settings.choice() | {"root": settings.data.root}
    return tuple(json.dumps(choice[name], sort_keys=True) for name in (*sections, "root"))


def _check_recipe(settings: Settings) -> None:
    make_classifier(settings, nn.Identity(), num_classes=10, steps_per_epoch=100)


def _count_images(settings: Settings) -> tuple[int, int, int]:
    """Return the numbers of train and val images and of training batches; download what is missing."""
    listed = settings.data.model_copy(update={"in_memory": False})  # files are listed, not decoded
    rank = Rank(world=settings.device.devices * settings.device.nodes)
    data = training_data(listed, settings.arch, settings.seed, rank, settings.device.least_images)
    training_loss(settings, data)
    return len(data.train.labels), len(data.val.labels), data.batches


def _training_step(settings: Settings) -> _Step:
    model, shape, _, facts = training_model.sketch(settings)
    if settings.arch.weights is not None:
        pretrained.fit(model, settings.arch)
    return _Step(model, shape, min(settings.data.batch_size, 64), facts["macs"])


def _measure(step: _Step, device: dict[str, Any]) -> float:
    """Return the seconds of a training step.

    A model that fails here gets an estimate; the failure will show in its own run, which has a log.
    """
    try:
        return _time_step(step, device)
    except Exception:  # any failure of a model's code
        return step.macs * step.batch * GUESSED_S
    finally:
        step.model = nn.Identity()  # release the memory


def _time_step(step: _Step, device: dict[str, Any]) -> float:
    """Time the second of two training steps, since the first includes initialisation."""
    device_type = DEVICE_TYPES[device["accelerator"]]
    model = place(step.model.to_empty(device=device_type), device | {"compile": False}).train()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(0.01)  # uninitialised memory may hold denormals, which are slow
    images = torch.rand(step.batch, *step.shape, device=device_type, dtype=next(model.parameters()).dtype)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        output = model(images)
        loss = sum(o.float().sum() for o in (output if isinstance(output, tuple) else (output,)))
        loss.backward()
        float(loss.detach())  # waits for the device
        seconds = time.perf_counter() - start
    return seconds
