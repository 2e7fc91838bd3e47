"""A finished run as a model to use: its best weights, and what they were trained to see.

What is read comes perhaps from somebody else: checkpoints hold tensors and plain values alone, and of what
config.yaml names only the architectures of `conf/arch` are called, unless their code is trusted.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from cnnbench.data import datasets, download
from cnnbench.data.datamodule import ImageData
from cnnbench.data.image_folder import scan
from cnnbench.data.preprocessing import Preparation, preparation
from cnnbench.errors import InputError
from cnnbench.ops.factory import Ops
from cnnbench.processes.cores import cpu_cores
from cnnbench.run_store.run import Run
from cnnbench.settings import compose
from cnnbench.settings.base import Seed
from cnnbench.settings.data import Data
from cnnbench.settings.device import Device
from cnnbench.settings.model import Arch, Native
from cnnbench.training import model as training_model
from cnnbench.training.device import DEVICE_TYPES, PRECISIONS, autocast, available, place, resolve

CHECKPOINT = "best.ckpt"
"""The weights of the epoch that was best on val: those that the test was made with."""

CONFIG = "config.yaml"

KEY = ImageData.__qualname__
"""Under which Lightning keeps in a checkpoint what the data module has to say."""

CPU = {"accelerator": "cpu", "precision": "32-true", "memory_format": "contiguous"}


class Asked(BaseModel):
    """What of a run's config.yaml its model and its images are made of."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    seed: Seed
    arch: Arch
    ops: Native
    data: Data
    device: Device


@dataclass(frozen=True)
class Trained:
    """A trained model, ready to be used.

    Attributes:
        run: where it comes from.
        asked: the settings that it was trained with.
        model: in eval mode, on its device: normalised (N, C, H, W) -> (N, K) logits.
        preparation: class names, size, normalisation, and what becomes of an image file.
        device: accelerator, precision, memory_format and threads that it computes with.
    """

    run: Run
    asked: Asked
    model: nn.Module
    preparation: Preparation
    device: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the model's input."""
        return self.preparation.channels, self.preparation.size, self.preparation.size

    def logits(self, pixels: Tensor) -> Tensor:
        """uint8 (N, colours, size, size) of any device -> float32 (N, K) on the CPU.

        Raises:
            InputError: they are not finite, as those of weights that are finite but huge.
        """
        where, dtype = DEVICE_TYPES[self.device["accelerator"]], next(self.model.parameters()).dtype
        with torch.inference_mode(), autocast(self.device):
            images = self.preparation.normalise(pixels.to(where)).to(dtype)
            found: Tensor = self.model(images).float().cpu()
        if not found.isfinite().all():
            raise InputError(
                f"{self.run.path}: its model gives values that are not finite; allowed: another run"
            )
        return found


def load(run: Run, device: Mapping[str, Any] | None = None, *, trust_code: bool = False) -> Trained:
    """The model of a finished run with the weights of its best epoch.

    Args:
        run: see `cnnbench.run_store.finished.finished`.
        device: where to compute, as `cnnbench.training.device.resolve` gives it; None: see `where`.
        trust_code: import and call the architecture that config.yaml names, whatever it is.

    Raises:
        InputError: no such checkpoint, or one that does not fit; code that is not trusted; a device that is
            not here.
    """
    asked = settings(run)
    check_trusted(run, asked.arch, trust_code=trust_code)
    checkpoint = _checkpoint(run.checkpoints / CHECKPOINT)
    prepared = _preparation(run, asked, checkpoint.get(KEY))
    shape = (prepared.channels, prepared.size, prepared.size)
    try:
        ops = Ops(**asked.ops.model_dump(exclude_none=True))
        model = training_model.assemble(asked.arch, ops, shape, len(prepared.classes))
    except InputError as error:  # nobody has typed these settings
        raise InputError(f"{run.path / CONFIG}: {error}") from None
    tensors = {
        name.removeprefix("model."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("model.")
    }
    device = device or where(run)
    model = place(model.to(DEVICE_TYPES[device["accelerator"]]), device)
    try:
        model.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{run.checkpoints / CHECKPOINT}: does not fit {asked.arch.name} ({said})") from None
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise InputError(f"{run.checkpoints / CHECKPOINT}: {name} holds values that are not finite")
    return Trained(run, asked, model.eval().requires_grad_(False), prepared, device)


def settings(run: Run) -> Asked:
    """What a run was asked for.

    Raises:
        InputError: config.yaml is absent, or not that of a run.
    """
    file = run.path / CONFIG
    config = run.config()
    if not config:
        what = "is not readable" if os.path.lexists(file) else "is not there"
        raise InputError(f"{file}: {what}; a run needs it to be used")
    try:
        return Asked.model_validate(config)
    except ValidationError as error:
        raise InputError(f"{file}: is not that of a run ({_first(error)})") from None


def check_trusted(run: Run, arch: Arch, *, trust_code: bool = False) -> None:
    """A name in a file may lead to any code: only the architectures that `conf/arch` lists are called.

    Raises:
        InputError: it is another one, and `trust_code` is not given.
    """
    if trust_code:
        return
    files = Path(compose.CONF, "arch").glob("*.yaml")
    ours = {yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)["_target_"] for file in files}
    if arch.target not in ours:
        raise InputError(
            f"{run.path}: arch._target_={arch.target} is no architecture of cnnbench, and would be imported "
            "and called; allowed: with --trust-code, if you know where this run comes from"
        )


def where(run: Run, asked: Device | None = None) -> dict[str, Any]:
    """What to compute with: what is asked for, else what the run was trained with, else what there is."""
    if asked is not None:
        return resolve(asked)
    recorded = run.status().get("device", {})
    if recorded.keys() >= {*CPU, "threads"} and recorded["accelerator"] in available():
        chosen = {key: recorded[key] for key in CPU}
        return chosen | {"threads": max(1, min(int(recorded["threads"]), cpu_cores()))}
    auto = Device(name="auto", accelerator="auto", precision="32-true", memory_format="auto", threads=None)
    return resolve(auto)


def moved(device: Device, accelerator: str) -> Device:
    """The device settings of a training, for the use of its model elsewhere, by one process.

    Nothing is compiled, and a precision that the accelerator does not have becomes float32.
    """
    here = available()[0] if accelerator == "auto" else accelerator
    precision = device.precision if device.precision in PRECISIONS[here] else "32-true"
    alone = {"devices": 1, "nodes": 1, "compile": False}
    return device.model_copy(update={"accelerator": accelerator, "precision": precision} | alone)


def _checkpoint(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # what is wrong with it is said once
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: is not there; a run needs it to be used") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # of unpickling, of zip files, of what weights_only forbids
        raise InputError(
            f"{path}: is no checkpoint, or cut short, or holds other objects than tensors, "
            "which could run code"
        ) from error
    state = found.get("state_dict") if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"{path}: holds no weights of a run of cnnbench")
    return dict(found)


def _first(error: ValidationError) -> str:
    """The first of the mistakes in a file, in words."""
    item = error.errors()[0]
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return ": ".join(filter(None, (".".join(map(str, item["loc"])), message)))


def _preparation(run: Run, asked: Asked, carried: Any) -> Preparation:
    """What the checkpoint carries; for one of before it did so, what the data set says."""
    if carried is not None:
        try:
            return Preparation.model_validate(carried)
        except ValidationError as error:
            said = f"{KEY} is not as expected ({_first(error)})"
            raise InputError(f"{run.checkpoints / CHECKPOINT}: {said}") from None
    data, arch = asked.data, asked.arch
    root = Path(data.root).expanduser()
    pixels: Tensor | list[Path]
    try:
        if data.name == "synthetic":
            images = datasets.synthetic(data.size or 1, data.num_classes or 2, 1, 1, 0)["train"]
            classes, pixels = images.classes, images.pixels
        elif data.name == "imagefolder":  # its names are enough
            files = next(iter(scan(root).values()))
            classes, pixels = files.classes, files.paths
        else:
            with download.without_download():
                images = next(iter(datasets.load(data.name, root).values()))
            classes, pixels = images.classes, images.pixels
        return preparation(
            data.name, classes, pixels, data.size, arch.in_channels,
            imagenet_normalisation=arch.weights == "imagenet",
        )  # fmt: skip
    except InputError as error:
        raise InputError(
            f"{run.path}: was trained before checkpoints carried class names and normalisation, and its "
            f"data set cannot be asked either ({error})"
        ) from None
