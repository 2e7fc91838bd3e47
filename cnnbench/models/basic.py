"""Textbook convolutional network."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from cnnbench.models.scaling import Probability, Width, last_side, scaled
from cnnbench.ops.factory import Ops


def basic(
    *,
    ops: Ops,
    in_channels: int,
    num_classes: int,
    image_size: int,
    blocks: int,
    convs: int = 1,
    width: Width = 1.0,
    kernel: int = 3,
    head: Literal["flatten", "gap"] = "flatten",
    hidden: int = 128,
    dropout: Probability = 0.0,
) -> nn.Sequential:
    """Return blocks of convolution, norm, activation and pooling, followed by fully connected layers.

    Convolutions keep the size of the map, and pooling halves it. Channels are 32 x `width` in the first block
    and double with each.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        blocks: number of blocks, each of which halves the map.
        convs: convolutions in a block, each with its norm and activation.
        width: multiplies every channel count.
        kernel: side of the convolutions' kernels, odd.
        head: `flatten`: a hidden fully connected layer on the flattened map, then that of the logits; `gap`:
            global average pooling, then the layer of the logits.
        hidden: units of the hidden fully connected layer.
        dropout: before the last layer.

    Raises:
        ValueError: more blocks than times that the image can be halved, an even kernel, or sizes below 1.
        OpsError: see `cnnbench.ops.factory`.
    """
    if not 1 <= blocks <= image_size.bit_length() - 1:
        raise ValueError(
            f"blocks={blocks}: each block halves the map; allowed for images of {image_size} pixels: "
            f"1 to {image_size.bit_length() - 1}"
        )
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: allowed: odd numbers from 1")
    for setting, value in (("hidden", hidden), ("convs", convs)):
        if value < 1:
            raise ValueError(f"{setting}={value}: allowed: 1 or more")
    features, c = nn.Sequential(), in_channels
    for i in range(blocks):
        c_out = scaled(32 * 2**i, width)
        features.add_module(f"block{i + 1}", block(ops, c, c_out, kernel, convs))
        c = c_out
    if head == "flatten":
        side = last_side(features, in_channels, image_size, most=image_size >> blocks)
        layers = [
            nn.AdaptiveAvgPool2d(side),  # changes the map only if ops.pool=none left it large
            nn.Flatten(),  # (N, C, side, side) -> (N, C * side * side)
            ops.linear(c * side * side, hidden),
            ops.act(hidden),
            nn.Dropout(dropout),
            ops.linear(hidden, num_classes, logits=True),
        ]
    else:
        layers = [
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            ops.linear(c, num_classes, logits=True),
        ]
    return nn.Sequential(OrderedDict(features=features, head=nn.Sequential(*layers)))


def block(ops: Ops, c_in: int, c_out: int, kernel: int, convs: int) -> nn.Sequential:
    """Return a block: (N, c_in, H, W) -> (N, c_out, H // 2, W // 2)."""
    layers: list[nn.Module] = []
    for i in range(convs):
        layers += [ops.conv(c_in if i == 0 else c_out, c_out, kernel), ops.norm(c_out), ops.act(c_out)]
    return nn.Sequential(*layers, ops.pool(2, 2))
