"""From the settings of architecture and ops to a model that is known to fit the images."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from cnnbench import macs
from cnnbench.build import factory
from cnnbench.errors import InputError, OpsError
from cnnbench.ops import Ops
from cnnbench.settings import Settings

TOO_SMALL = re.compile(
    r"Kernel size can't be greater|too small|Padding size should be less|Padding value causes wrapping"
    r"|Expected more than 1 (spatial element|value per channel)|more than one pixel|a window of",
)
"""What torch, and our own layers, say of maps that are too small for them."""


def make(
    settings: Settings, shape: macs.Shape, num_classes: int, batch: int
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model, and show on meta tensors that it can be trained.

    Args:
        settings: of them `arch` and `ops`.
        shape: (C, H, W) of the images.
        num_classes: K.
        batch: images in the smallest training batch.

    Returns:
        The model and its `params`, `macs` and, where cnnbench initialised it, `init`.

    Raises:
        OpsError: it cannot carry one of the ops.
        InputError: wrong settings, or a model that does not fit the images.
    """
    arch, resolved = settings.arch, settings.resolved_ops()
    ops = Ops(**resolved)
    model = factory(
        arch,
        "arch",
        ops=ops,
        name=arch.name.removeprefix(f"{arch.library}."),
        weights=arch.weights,
        in_channels=shape[0],
        num_classes=num_classes,
        image_size=shape[1],
    )()
    where = f"arch={arch.name} on images of {'x'.join(map(str, shape))}"
    ops.check_asked((a for a, value in settings.ops.model_dump().items() if value != "native"), where)
    if resolved:
        try:
            macs.forward(model, shape, batch, "meta", training=True)
        except (RuntimeError, ValueError) as error:
            said = str(error).splitlines()[0]
            where += " with " + " ".join(f"ops.{axis}={value}" for axis, value in resolved.items())
            if TOO_SMALL.search(str(error)):
                raise OpsError("small", f"{where} ({said})") from error
            raise InputError(f"{where}: {said}") from error
    facts = {"params": macs.params(model), "macs": macs.macs(model, shape, num_classes)}
    return model, facts | ({"init": ops.initialisation} if resolved else {})
