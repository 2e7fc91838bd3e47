"""From the settings of architecture and ops to a model that is known to fit the images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnbench.data.datasets import channels, check_classes, dataset
from cnnbench.data.folder_scan import scan
from cnnbench.errors import InputError, OpsError, TooSmall, Unfit
from cnnbench.models import complexity
from cnnbench.models.running import running
from cnnbench.models.shapes import QuickShapes
from cnnbench.ops import limits
from cnnbench.ops.factory import Ops
from cnnbench.settings.bench import Bench
from cnnbench.settings.instantiate import factory
from cnnbench.settings.model import Arch
from cnnbench.settings.run import Settings
from cnnbench.training.image_size import least_size


def make(
    settings: Settings, shape: complexity.Shape, num_classes: int, batch: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model, and show on meta tensors that it can be trained.

    Args:
        settings: of them `arch` and `ops`, and whether batch norm is to be synchronised.
        shape: (C, H, W) of the images.
        num_classes: K.
        batch: images that share batch statistics, at the least.

    Returns:
        The model and its `params`, `macs` and, where cnnbench initialised it, `init`.

    Raises:
        OpsError: it cannot carry one of the ops, or a map becomes too small.
        Unfit: it cannot compute logits of such images.
        InputError: wrong settings, or a model whose batch norm cannot be synchronised.
    """
    arch, resolved = settings.arch, settings.resolved_ops()
    ops = Ops(**resolved)
    model = assemble(arch, ops, shape, num_classes)
    where = f"arch={arch.name} on images of {'x'.join(map(str, shape))}"
    ops.check_asked((a for a, value in settings.ops.model_dump().items() if value != "native"), where)
    if resolved:
        try:
            with running(model) as calls, limits.checked(model):
                complexity.forward(model, shape, batch, "meta", training=True)
        except (RuntimeError, ValueError) as error:
            where += " with " + " ".join(f"ops.{axis}={value}" for axis, value in resolved.items())
            message = (str(error) or type(error).__name__).splitlines()[0]
            layer = f"{calls[-1]}: " if calls else ""
            if isinstance(error, TooSmall):
                raise OpsError("small", f"{where} ({layer}{message})") from error
            raise Unfit(f"{where}: {layer}{message}") from error
    if settings.device.sync_batch_norm:
        from cnnbench.training import sync_batch_norm  # imports Lightning, for which `inspect` must not wait

        sync_batch_norm.check(model, arch.name)
    facts = {"params": complexity.params(model), "macs": complexity.macs(model, shape, num_classes)}
    return model, facts | ({"init": ops.initialisation} if resolved else {})


def make_for_images(
    settings: Settings, shape: complexity.Shape, num_classes: int, batch: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model as `make` does; an error about the size of the images names one that works."""
    with _naming_size(settings, shape, num_classes, batch):
        return make(settings, shape, num_classes, batch)


@contextmanager
def _naming_size(settings: Settings, shape: complexity.Shape, num_classes: int, batch: int) -> Iterator[None]:
    """Add to an error that depends on the size of the images the least size without it, if there is one."""

    def works(side: int) -> bool:
        try:
            with torch.device("meta"), QuickShapes():
                make(settings, (shape[0], side, side), num_classes, batch)
        except Exception:  # any model's code
            return False
        return True

    try:
        yield
    except InputError as error:
        if isinstance(error, Unfit) or (isinstance(error, OpsError) and error.reason == "small"):
            side = least_size(works, shape[1])
            more = " or more" if side is not None and works(side + 1) else ""  # some take one size alone
            allowed = "no size up to 1,024 works" if side is None else f"allowed: data.size={side}{more}"
            error.args = (f"{error}; {allowed}",)
        raise


def assemble(arch: Arch, ops: Ops, shape: complexity.Shape, num_classes: int) -> nn.Module:
    """Build the model of an architecture, whether or not it can be trained.

    Raises:
        InputError: wrong settings.
    """
    model: nn.Module = factory(
        arch,
        "arch",
        ops=ops,
        name=arch.name.removeprefix(f"{arch.library}."),
        weights=arch.weights,
        in_channels=shape[0],
        num_classes=num_classes,
        image_size=shape[1],
    )()
    ops.finish()
    return model


def sketch(settings: Settings) -> tuple[nn.Module, complexity.Shape, int, dict[str, Any]]:
    """Build the model on meta tensors where possible: nothing is allocated, read or downloaded.

    Returns:
        The model, (C, H, W) of the images, the number of classes, and what `make` returns besides.

    Raises:
        InputError: whatever is wrong with the settings.
    """
    depth, size, classes = image_facts(settings)
    shape = (depth, size, size)
    batch = settings.data.batch_size
    with _naming_size(settings, shape, classes, batch):
        try:
            with torch.device("meta"), QuickShapes():
                model, facts = make(settings, shape, classes, batch)
        except OpsError:
            raise
        except InputError:  # models of other libraries may not be made for it
            model, facts = make(settings, shape, classes, batch)
    return model, shape, classes, facts


def image_facts(settings: Settings) -> tuple[int, int, int]:
    """Channels, side and classes that a model must fit, without reading or downloading images.

    Raises:
        InputError: the data set is unknown, has not what is asked for, or its images differ in size and
            `data.size` is null.
    """
    data = settings.data
    found = dataset(data.name)
    # Of a measurement they are the run's that it is of, or were counted in the folder.
    if not (isinstance(settings, Bench) and (settings.of or data.name == "imagefolder")):
        check_classes(data.name, data.num_classes)
    size, classes = data.size or found.size, data.num_classes or found.classes
    if data.name == "imagefolder" and classes is None:
        classes = len(next(iter(scan(Path(data.root).expanduser()).values())).classes)
    if size is None:
        raise InputError(
            f"data.size=null: the images of {data.name} differ in size; allowed: 4 or more pixels"
        )
    assert classes is not None
    return channels(data.name, settings.arch.in_channels), size, classes
