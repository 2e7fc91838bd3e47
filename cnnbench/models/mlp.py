"""Fully connected baseline."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from cnnbench.models.scaling import Probability, Width
from cnnbench.ops.factory import Ops


def mlp(
    *,
    ops: Ops,
    in_channels: int,
    num_classes: int,
    image_size: int,
    hidden: Sequence[int],
    width: Width = 1.0,
    dropout: Probability = 0.0,
) -> nn.Sequential:
    """Return hidden layers with activations on the flattened image, which ignore the order of the pixels.

    Shapes: (N, in_channels, image_size, image_size) -> (N, num_classes).

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        hidden: units of each hidden layer.
        width: multiplies them.
        dropout: after each hidden layer.

    Raises:
        ValueError: a hidden layer without units.
    """
    units = [round(n * width) for n in hidden]
    if any(n < 1 for n in units):
        raise ValueError(f"width={width} x hidden={list(hidden)}: each layer needs one unit or more")
    layers: list[nn.Module] = [nn.Flatten()]
    before = in_channels * image_size**2
    for n in units:
        layers += [ops.linear(before, n), ops.act(n), nn.Dropout(dropout)]
        before = n
    return nn.Sequential(*layers, ops.linear(before, num_classes, logits=True))
