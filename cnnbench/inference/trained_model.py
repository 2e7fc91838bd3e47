"""A finished run as a model: its best weights, and the preprocessing that they were trained with.

A run may come from somebody else. Checkpoints may contain only tensors and plain values, and only the
architectures in `conf/arch` are called, unless the user trusts the code that config.yaml names.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from cnnbench.console import console
from cnnbench.data import datasets, download
from cnnbench.data.datamodule import ImageData
from cnnbench.data.folder_scan import scan
from cnnbench.data.preprocessing import Preparation, preparation
from cnnbench.errors import InputError, reason
from cnnbench.inference.network import Network
from cnnbench.ops.factory import Ops
from cnnbench.processes.cores import cpu_cores
from cnnbench.run_store.content import CONFIG
from cnnbench.run_store.identity import CODE, is_ours
from cnnbench.run_store.run import Run
from cnnbench.run_store.schema import LAST_EPOCH
from cnnbench.run_store.seal import Damaged
from cnnbench.run_store.verify import foreign
from cnnbench.settings.base import Seed
from cnnbench.settings.code import own_code
from cnnbench.settings.data import Data
from cnnbench.settings.device import Device
from cnnbench.settings.instantiate import check_trusted
from cnnbench.settings.model import Arch, Native, UntrustedArch
from cnnbench.training.checkpoints import read_checkpoint
from cnnbench.training.device import DEVICE_TYPES, PRECISIONS, available, place, resolve
from cnnbench.training.model import assemble

CHECKPOINT = "best.ckpt"
"""Weights of the best epoch on val, with which the training computed its test metrics."""

ORIGINAL = "the file as it was written (or train the run again, with force=true)"

KEY = ImageData.__qualname__
"""Key under which Lightning stores the state of the data module in a checkpoint."""

CPU = {"accelerator": "cpu", "precision": "32-true", "memory_format": "contiguous"}


class RunSettings(BaseModel):
    """The settings in a run's config.yaml that determine its model and its images, if its code is trusted."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    seed: Seed
    arch: Arch
    ops: Native
    data: Data
    device: Device


class UntrustedRunSettings(RunSettings):
    """The same of a run that somebody else may have made."""

    arch: UntrustedArch


@dataclass(frozen=True, kw_only=True)
class Trained(Network):
    """The model of a finished run.

    Attributes:
        run: its run.
        settings: those that it was trained with.
    """

    run: Run
    settings: RunSettings

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.path.name

    @property
    def weights(self) -> str:
        """Description of its weights for the user."""
        summary = self.run.summary()
        if isinstance(last := summary.get(LAST_EPOCH), int):
            return f"{CHECKPOINT}, from the last epoch ({last + 1}; data.val_fraction=0)"
        epoch = summary.get("best/epoch")
        number = f" (epoch {epoch + 1}, by {self.run.content().monitor})" if isinstance(epoch, int) else ""
        return f"{CHECKPOINT}, from the best epoch on val{number}"

    @property
    def facts(self) -> dict[str, Any]:
        """The run and its checkpoint, for files of results."""
        return {"run": self.name, "checkpoint": CHECKPOINT}

    @property
    def origin(self) -> Path:
        """Folder of the run."""
        return self.run.path


def load(run: Run, device: Mapping[str, Any] | None = None, *, trust_code: bool = False) -> Trained:
    """Load the model of a finished run with the weights of its best epoch.

    Args:
        run: as returned by `cnnbench.run_store.finished.finished`.
        device: as returned by `cnnbench.training.device.resolve`; None for the choice of `device_for`.
        trust_code: import and call the architecture that config.yaml names, whatever it is.

    Raises:
        InputError: the checkpoint is missing, damaged or does not match the architecture; the code is not
            trusted; or the device is not available.
    """
    run_settings = settings(run, trust_code=trust_code)
    arch = run_settings.arch
    with _in(run):
        check_trusted(arch, "arch")  # as `assemble` does, but before any other file of the run is read
    _mention_edits(run, arch)
    if problem := foreign(run, CHECKPOINT):
        raise InputError(f"{run.checkpoints / CHECKPOINT}: {problem}; allowed: {ORIGINAL}")
    checkpoint = _checkpoint(run.checkpoints / CHECKPOINT)
    prepared = _preparation(run, run_settings, checkpoint.get(KEY))
    shape = (prepared.channels, prepared.size, prepared.size)
    with _in(run):
        ops = Ops(**run_settings.ops.model_dump(exclude_none=True))
        model = assemble(arch, ops, shape, len(prepared.classes))
    tensors = {
        name.removeprefix("model."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("model.")
    }
    device = device or device_for(run)
    model = place(model.to(DEVICE_TYPES[device["accelerator"]]), device)
    try:
        model.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        message = " ".join(str(error).split())[:300]
        raise InputError(f"{run.checkpoints / CHECKPOINT}: does not match {arch.name} ({message})") from None
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise InputError(f"{run.checkpoints / CHECKPOINT}: {name} contains values that are not finite")
    ready = model.eval().requires_grad_(False)
    return Trained(run=run, settings=run_settings, model=ready, preparation=prepared, device=device)


@contextmanager
def _in(run: Run) -> Iterator[None]:
    """Name the file in errors about settings: they come from it, not from the command line."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{run.path / CONFIG}: {error}") from None


def _mention_edits(run: Run, arch: Arch) -> None:
    """Warn that a user's own architecture was edited since the run was trained with it."""
    trained_with = run.choice().get("arch", {}).get(CODE)
    if not is_ours(str(arch.target)) and trained_with not in (None, own_code(str(arch.target))):
        text = f"{run.path}: {arch.target} was edited since this run was trained; its results may differ"
        console.print(text, style="yellow", highlight=False, soft_wrap=True, markup=False)


def settings(run: Run, *, trust_code: bool = False) -> RunSettings:
    """Read the settings of a run, whose architecture can be called if cnnbench ships it or it is trusted.

    Raises:
        InputError: config.yaml is missing, unreadable or not the config of a run.
    """
    file = run.path / CONFIG
    content = run.content()
    config = content.config
    if not config:
        raise InputError(f"{content.problem(CONFIG)}; a run cannot be used without it")
    try:
        return (RunSettings if trust_code else UntrustedRunSettings).model_validate(config)
    except ValidationError as error:
        raise InputError(f"{file}: is not the config of a run ({_first(error)})") from None


def device_for(run: Run, requested: Device | None = None) -> dict[str, Any]:
    """Choose what to compute with: the requested device, else that of the training, else the best one here.

    Raises:
        InputError: the requested device is not available.
    """
    if requested is not None:
        return resolve(requested)
    recorded = run.status().get("device", {})
    if recorded.keys() >= {*CPU, "threads"} and recorded["accelerator"] in available():
        device = {key: recorded[key] for key in CPU}
        return device | {"threads": max(1, min(int(recorded["threads"]), cpu_cores()))}
    auto = Device(name="auto", accelerator="auto", precision="32-true", memory_format="auto", threads=None)
    return resolve(auto)


def on_accelerator(device: Device, accelerator: str) -> Device:
    """Adapt the device settings of a training for inference on an accelerator, in one process.

    Nothing is compiled, and a precision that the accelerator does not support becomes float32.
    """
    resolved = available()[0] if accelerator == "auto" else accelerator
    precision = device.precision if device.precision in PRECISIONS[resolved] else "32-true"
    single = {"devices": 1, "nodes": 1, "compile": False}
    return device.model_copy(update={"accelerator": accelerator, "precision": precision} | single)


def _checkpoint(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # an error is reported once, below
            checkpoint = read_checkpoint(path)
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; a run cannot be used without it") from None
    except PermissionError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except Damaged as error:
        raise InputError(f"{error}; allowed: {ORIGINAL}") from None
    except Exception as error:  # from pickle, or because weights_only forbids an object
        raise InputError(
            f"{path}: is not a checkpoint, is truncated, or contains objects other than tensors, "
            "which could run code"
        ) from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"{path}: contains no weights of a cnnbench run")
    return dict(checkpoint)


def _first(error: ValidationError) -> str:
    """Return the first error in a file as `key: reason`."""
    item = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, item["loc"])), reason(item))))


def _preparation(run: Run, run_settings: RunSettings, stored: Any) -> Preparation:
    """Return the preprocessing stored in the checkpoint; for an older one, derive it from the data set."""
    if stored is not None:
        try:
            return Preparation.model_validate(stored)
        except ValidationError as error:
            problem = f"{KEY} is not as expected ({_first(error)})"
            raise InputError(f"{run.checkpoints / CHECKPOINT}: {problem}") from None
    data, arch = run_settings.data, run_settings.arch
    root = Path(data.root).expanduser()
    pixels: Tensor | list[Path]
    try:
        if data.name == "synthetic":
            images = datasets.synthetic(data.size or 1, data.num_classes or 2, 1, 1, 0)["train"]
            classes, pixels = images.classes, images.pixels
        elif data.name == "imagefolder":  # the names of its folders are enough
            files = next(iter(scan(root).values()))
            classes, pixels = files.classes, files.paths
        else:
            with download.without_download():
                images = next(iter(datasets.load(data.name, root).values()))
            classes, pixels = images.classes, images.pixels
        return preparation(data.source(), classes, pixels, arch.model_input())
    except InputError as error:
        raise InputError(
            f"{run.path}: was trained before checkpoints stored class names and normalisation, and its "
            f"data set is not available either ({error})"
        ) from None
