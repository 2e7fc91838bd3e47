"""The network that settings describe, with the weights that `arch.weights` names and no training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnbench.data.datamodule import ImageData
from cnnbench.errors import InputError
from cnnbench.inference.network import Network
from cnnbench.settings.identity import content
from cnnbench.settings.model import Arch
from cnnbench.settings.run import Settings
from cnnbench.training import model as training_model
from cnnbench.training import pretrained
from cnnbench.training.device import DEVICE_TYPES, place, resolve


@dataclass(frozen=True, kw_only=True)
class Loaded(Network):
    """A network with published weights, or those of a file.

    Attributes:
        arch: settings of the architecture.
        digest: of the file's content, by which it counts in the identity of a training; None: `imagenet`.
        notes: remarks and warnings for the user.
    """

    arch: Arch
    digest: str | None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the architecture."""
        return self.arch.name

    @property
    def weights(self) -> str:
        """Description of its weights for the user: the file, or `imagenet`."""
        return str(self.arch.weights)

    @property
    def facts(self) -> dict[str, Any]:
        """The architecture and its file, for files of results."""
        return {"run": None, "arch": self.name, "checkpoint": self.weights, "digest": self.digest}

    @property
    def origin(self) -> str:
        """The setting that names the weights."""
        return f"arch.weights={self.weights}"


def load(settings: Settings, data: ImageData) -> Loaded:
    """Build the network for the images, and load all of its weights.

    Args:
        settings: with `arch.weights`; of them arch, ops, data and device count.
        data: the images that they describe.

    Raises:
        InputError: see `pretrained.load`; the file lacks weights, which would keep their initial values; or
            the device is not available.
    """
    path = settings.arch.weights
    assert path is not None
    digest = None if path == "imagenet" else content(path)
    single = settings.device.model_copy(update={"devices": 1, "nodes": 1, "sync_batch_norm": False})
    arch = settings.arch.model_copy(update={"freeze": False})  # nothing is trained
    settings = settings.model_copy(update={"device": single, "arch": arch})
    device = resolve(single, layout=arch.layout)
    shape = (data.channels, data.size, data.size)
    model, _ = training_model.make_for_images(
        settings, shape, data.num_classes, batch=data.batching.batch_size
    )
    found = pretrained.fit(model, arch)
    if lacks := [name for name in found.left if name not in found.other]:
        raise InputError(
            f"arch.weights={path}: has no {', '.join(lacks[:3])}{', …' * (len(lacks) > 3)} of "
            f"arch={arch.name} for {data.num_classes} classes; allowed: a file with all weights, or "
            "`cnnbench train`, which trains what is missing"
        )
    if found.other:
        name, sizes = next(iter(found.other.items()))
        raise InputError(
            f"arch.weights={path}: {name} is {sizes} in arch={arch.name} for {data.num_classes} classes and "
            f"images of {'x'.join(map(str, shape))}; allowed: a file of this network"
        )
    pretrained.load(model, arch, found)
    notes = (f"warning: {pretrained.not_used(found.unused, arch)}",) if found.unused else ()
    model = place(model.to(DEVICE_TYPES[device["accelerator"]]), device).eval().requires_grad_(False)
    return Loaded(
        model=model, preparation=data.preparation, device=device, arch=arch, digest=digest, notes=notes
    )
