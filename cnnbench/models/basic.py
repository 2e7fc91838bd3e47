"""The textbook convolutional network."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

from torch import nn


def basic(
    *,
    in_channels: int,
    num_classes: int,
    image_size: int,
    blocks: int,
    width: float,
    kernel: int,
    head: Literal["flatten", "gap"],
    hidden: int,
    dropout: float,
) -> nn.Sequential:
    """Blocks of convolution, batch norm, ReLU and max-pooling, then fully connected layers.

    The convolution keeps the size (zero padding), the pooling halves it; channels are
    32 x `width` in the first block and double with each. `head="flatten"` puts a hidden fully
    connected layer on the flattened map, `head="gap"` averages the map and classifies at once.

    Shapes: (N, in_channels, image_size, image_size) -> (N, num_classes).

    Raises:
        ValueError: more blocks than the image can be halved, an even kernel, or sizes below 1.
    """
    if not 1 <= blocks <= image_size.bit_length() - 1:
        raise ValueError(
            f"blocks={blocks}: each block halves the map; allowed for images of {image_size} pixels: "
            f"1 to {image_size.bit_length() - 1}"
        )
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: allowed: odd numbers from 1")
    if hidden < 1:
        raise ValueError(f"hidden={hidden}: allowed: 1 or more")
    channels = [in_channels] + [round(32 * width * 2**i) for i in range(blocks)]
    if min(channels) < 1:
        raise ValueError(f"width={width}: leaves no channels; allowed: 1/32 or more")
    features = nn.Sequential(
        OrderedDict(
            (f"block{i}", block(c_in, c_out, kernel)) for i, (c_in, c_out) in enumerate(pairwise(channels), 1)
        )
    )
    side = image_size >> blocks
    layers: list[nn.Module]
    if head == "flatten":
        layers = [
            nn.Flatten(),  # (N, C, side, side) -> (N, C * side * side)
            nn.Linear(channels[-1] * side * side, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        ]
    else:
        layers = [
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels[-1], num_classes),
        ]
    return nn.Sequential(OrderedDict(features=features, head=nn.Sequential(*layers)))


def block(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """(N, c_in, H, W) -> (N, c_out, H // 2, W // 2)."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),  # the norm's shift is its bias
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
    )
