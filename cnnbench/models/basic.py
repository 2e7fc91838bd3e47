"""Textbook convolutional network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cache, partial
from math import inf
from typing import Literal

from torch import nn

from cnnbench.models import equal as sizes
from cnnbench.models.scaling import Probability, Width, last_side, scaled
from cnnbench.ops.factory import Ops

Head = Literal["flatten", "gap"]

Convolution = Callable[[Ops, int, int, int, int, list[nn.Module]], nn.Module]
"""Makes a layer from its channels before and after, kernel and stride, and the layers in front of it."""


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
    stride: int = 1,
    pool_kernel: int = 2,
    head: Head = "flatten",
    hidden: int = 128,
    dropout: Probability = 0.0,
    equal: sizes.Equal | None = None,
) -> nn.Sequential:
    """Return blocks of convolution, norm, activation and pooling, followed by fully connected layers.

    Convolutions keep the size of the map, unless they have a stride, and pooling halves it. Channels are
    32 x `width` in the first block and double with each.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        blocks: number of blocks, each of which halves the map.
        convs: convolutions in a block, each with its norm and activation.
        width: multiplies every channel count.
        kernel: side of the convolutions' kernels, odd.
        stride: of the first convolution of each block.
        pool_kernel: side of the pooling windows, which are 2 pixels apart; 1: blocks end without one.
        head: `flatten`: a hidden fully connected layer on the flattened map, then that of the logits; `gap`:
            global average pooling, then the layer of the logits.
        hidden: units of the hidden fully connected layer.
        dropout: before the last layer.
        equal: in place of `width`, take that at which the network has as many `params` or `macs` as
            `textbook` of the given width and number of blocks.

    Raises:
        ValueError: blocks that leave nothing of the image, an even kernel, a stride beyond the kernel, sizes
            below 1, or no width at which the network is `equal`.
        OpsError: see `cnnbench.ops.factory`.
    """
    make = partial(
        network,
        convolution=shared,
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=image_size,
        blocks=blocks,
        convs=convs,
        kernel=kernel,
        stride=stride,
        pool_kernel=pool_kernel,
        head=head,
        hidden=hidden,
        dropout=dropout,
    )
    if equal is not None:
        shape = (in_channels, image_size, image_size)

        @cache
        def price(scale: float) -> int:
            if round(32 * scale) < 1:
                return 0
            return sizes.cost(equal, lambda: make(Ops(**ops.values), scale), shape, num_classes)

        target = textbook_cost(equal, shape, num_classes, blocks, width)
        width = min(sizes.bracket(price, target), key=lambda scale: abs((price(scale) or inf) - target))
        sizes.check(equal, price(width), target)
    return make(ops, width)


def textbook_cost(
    equal: sizes.Equal, shape: tuple[int, int, int], num_classes: int, blocks: int, width: float
) -> int:
    """Return parameters or multiply-accumulates of the basic network with native ops and default settings.

    Args:
        equal: which of both.
        shape: (C, H, W) of the images.
        num_classes: K.
        blocks, width: as of `basic`.
    """

    def build() -> nn.Module:
        return basic(
            ops=Ops(),
            in_channels=shape[0],
            num_classes=num_classes,
            image_size=shape[1],
            blocks=blocks,
            width=width,
        )

    return sizes.cost(equal, build, shape, num_classes)


def shared(ops: Ops, c_in: int, c_out: int, kernel: int, stride: int, before: list[nn.Module]) -> nn.Module:
    """Return a convolution: a `Convolution`."""
    return ops.conv(c_in, c_out, kernel, stride)


def network(
    ops: Ops,
    width: float,
    *,
    convolution: Convolution,
    in_channels: int,
    num_classes: int,
    image_size: int,
    blocks: int,
    convs: int,
    kernel: int,
    stride: int,
    pool_kernel: int,
    head: Head,
    hidden: int,
    dropout: float,
) -> nn.Sequential:
    """Return the basic network with any kind of convolution; see `basic`."""
    side = native_side(image_size, blocks, convs, kernel, stride, pool_kernel)
    if hidden < 1:
        raise ValueError(f"hidden={hidden}: allowed: 1 or more")
    features, layers, c = nn.Sequential(), list[nn.Module](), in_channels
    for i in range(blocks):
        c_out, start = scaled(32 * 2**i, width), len(layers)
        for j in range(convs):
            layers.append(convolution(ops, c, c_out, kernel, stride if j == 0 else 1, layers))
            layers += [ops.norm(c_out), ops.act(c_out)]
            c = c_out
        layers.append(ops.pool(pool_kernel, 2) if pool_kernel > 1 else nn.Identity())
        features.add_module(f"block{i + 1}", nn.Sequential(*layers[start:]))
    if head == "flatten":
        side = last_side(features, in_channels, image_size, most=side)
        last = [
            nn.AdaptiveAvgPool2d(side),  # changes the map only if ops.pool=none left it large
            nn.Flatten(),  # (N, C, side, side) -> (N, C * side * side)
            ops.linear(c * side * side, hidden),
            ops.act(hidden),
            nn.Dropout(dropout),
            ops.linear(hidden, num_classes, logits=True),
        ]
    else:
        last = [
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            ops.linear(c, num_classes, logits=True),
        ]
    return nn.Sequential(OrderedDict(features=features, head=nn.Sequential(*last)))


def native_side(image_size: int, blocks: int, convs: int, kernel: int, stride: int, pool_kernel: int) -> int:
    """Return the side of the last map with native ops; the arguments are those of `basic`.

    Raises:
        ValueError: they do not go together, or leave nothing of the image.
    """
    most = image_size.bit_length() - 1
    if not 1 <= blocks <= most:
        raise ValueError(
            f"blocks={blocks}: each block halves the map; allowed for images of {image_size} pixels: "
            f"1 to {most}"
        )
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: allowed: odd numbers from 1")
    for setting, value in (("convs", convs), ("pool_kernel", pool_kernel)):
        if value < 1:
            raise ValueError(f"{setting}={value}: allowed: 1 or more")
    if not 1 <= stride <= kernel:
        raise ValueError(
            f"stride={stride}: no pixel must be left out; allowed with kernel={kernel}: 1 to {kernel}"
        )
    side = image_size
    for block in range(blocks):
        side = -(-side // stride)
        if pool_kernel > 1:
            side = (side - pool_kernel) // 2 + 1
        if side < 1:
            raise ValueError(
                f"blocks={blocks}, stride={stride}, pool_kernel={pool_kernel}: nothing is left of images of "
                f"{image_size} pixels; allowed: blocks up to {block}, smaller values or larger images"
            )
    return side
