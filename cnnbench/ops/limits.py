"""The smallest maps that layers take, checked from shapes alone.

The checks are hooks that are installed for a forward pass on meta tensors before training, so that training
steps do not pay for them, and graphs that are compiled or exported are free of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from cnnbench.errors import TooSmall
from cnnbench.ops.layers import Conv2d
from cnnbench.ops.local import LocallyConnected2d
from cnnbench.ops.padding import check_convolution
from cnnbench.ops.pooling import Window, windows


@contextmanager
def checked(model: nn.Module) -> Iterator[None]:
    """Raise `TooSmall` in forward passes of the model where torch would raise an error of its own."""
    hooks = [module.register_forward_pre_hook(_check) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    if not inputs or not isinstance(inputs[0], Tensor) or inputs[0].ndim < 2:
        return
    batch, channels, *sides = inputs[0].shape
    forward = type(layer).forward  # a subclass with one of its own may pad the map first
    match layer:
        case nn.Conv2d() if len(sides) == 2 and forward in (nn.Conv2d.forward, Conv2d.forward):
            check_convolution(layer, sides)
        case LocallyConnected2d():
            check_convolution(layer, sides)
        case Window() if len(sides) == 2:
            for side in sides:
                layer.outputs(side)
        case nn.MaxPool2d() | nn.AvgPool2d() if len(sides) == 2:
            geometry = (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
            for side, numbers in zip(sides, zip(*map(_pair, geometry), strict=True), strict=True):
                windows(side, *numbers, ceil_mode=layer.ceil_mode)
        case _BatchNorm() if layer.training or layer.running_mean is None:
            if batch * prod(sides) == 1:
                raise TooSmall("batch norm of a single value per channel")
        case _InstanceNorm() if layer.training or not layer.track_running_stats:
            if prod(sides) == 1:
                raise TooSmall("instance norm of a single pixel")
        case nn.GroupNorm():
            if batch * (channels // layer.num_groups) * prod(sides) == 1:
                raise TooSmall("group norm of a single value per group")


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
