"""Textbook network without shared weights: sparse as a convolution, with weights of its own everywhere."""

from __future__ import annotations

from functools import partial

from torch import nn

from cnnbench.errors import OpsError, TooSmall
from cnnbench.models.basic import Head, network
from cnnbench.models.scaling import Probability, Width, last_side
from cnnbench.ops.factory import Ops


def locally_connected(
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
) -> nn.Sequential:
    """Return `basic` with a locally connected layer in place of each convolution.

    It costs the same multiply-accumulates, and the layers start with the same variance. Norms are still
    shared by all places of a channel.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        blocks, convs, width, kernel, stride, pool_kernel, head, hidden, dropout: as of
            `cnnbench.models.basic.basic`.

    Raises:
        ValueError, OpsError: as `basic`.
    """
    return network(
        ops,
        width,
        convolution=partial(unshared, in_channels, image_size),
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


def unshared(
    in_channels: int,
    image_size: int,
    ops: Ops,
    c_in: int,
    c_out: int,
    kernel: int,
    stride: int,
    before: list[nn.Module],
) -> nn.Module:
    """Return a locally connected layer for the map that the layers in front of it leave."""
    side = last_side(nn.Sequential(*before), in_channels, image_size, most=image_size)
    try:
        return ops.local(c_in, c_out, kernel, stride, side=side)
    except TooSmall as error:
        raise OpsError("small", f"{image_size} pixels ({error})") from error
