"""Fully connected baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from cnnbench.models import equal as sizes
from cnnbench.models.basic import textbook_cost
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
    equal: sizes.Equal | None = None,
    blocks: int = 3,
) -> nn.Sequential:
    """Return hidden layers with activations on the flattened image, which ignore the order of the pixels.

    Shapes: (N, in_channels, image_size, image_size) -> (N, num_classes).

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        hidden: units of each hidden layer.
        width: multiplies them.
        dropout: after each hidden layer.
        equal: the network has as many `params` or `macs` as `arch=basic` of that `width`; then `hidden` gives
            the proportions of its layers.
        blocks: of that network.

    Raises:
        ValueError: a hidden layer without units, or no number of units makes the network `equal`.
    """
    pixels = in_channels * image_size**2
    if equal is None:
        units = [round(n * width) for n in hidden]
    else:
        shape = (in_channels, image_size, image_size)
        target = textbook_cost(equal, shape, num_classes, blocks, width)
        units = fitted(equal, pixels, hidden, num_classes, target)
        sizes.check(equal, price(equal, pixels, units, num_classes), target)
    if any(n < 1 for n in units):
        raise ValueError(f"width={width} x hidden={list(hidden)}: each layer needs one unit or more")
    layers: list[nn.Module] = [nn.Flatten()]
    before = pixels
    for n in units:
        layers += [ops.linear(before, n), ops.act(n), nn.Dropout(dropout)]
        before = n
    return nn.Sequential(*layers, ops.linear(before, num_classes, logits=True))


def price(equal: sizes.Equal, pixels: int, units: Sequence[int], num_classes: int) -> int:
    """Return the parameters or multiply-accumulates of fully connected layers."""
    products = sum(a * b for a, b in pairwise([pixels, *units, num_classes]))
    return products + (sum(units) + num_classes if equal == "params" else 0)


def fitted(
    equal: sizes.Equal, pixels: int, hidden: Sequence[int], num_classes: int, target: int
) -> list[int]:
    """Return units for each hidden layer, in proportion to `hidden`, with which the layers cost the target.

    A unit of the first layer costs a weight for each pixel, so its number is rounded down; each of the layers
    that follow makes up for what is left, and the last one meets the target as closely as whole units can.
    """
    units: list[int] = []
    for i in range(len(hidden)):
        rest = hidden[i:]

        def scaled(scale: float, rest: Sequence[int] = rest) -> list[int]:
            return [max(1, math.floor(n * scale)) for n in rest]

        def total(scale: float) -> int:
            return price(equal, pixels, [*units, *scaled(scale)], num_classes)

        low, high = sizes.bracket(total, target)
        last = len(rest) == 1 and total(high) - target < target - total(low)
        units.append(scaled(high if last else low)[0])
    return units
