"""Types of the architectures' settings, and scaling: widths, and stems for small images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from cnnbench.errors import OpsError, TooSmall
from cnnbench.models.running import running
from cnnbench.ops.limits import checked

Stem = Literal["auto", "imagenet", "small"]
"""First layers: those for ImageNet, those for small images, or by the size of the images."""
Width = Annotated[float, Field(strict=True, gt=0, le=64)]
"""Factor of a family's channel counts."""
Probability = Annotated[float, Field(strict=True, ge=0, lt=1)]
"""Probability of dropping a unit or a block."""


def is_small(stem: Stem, image_size: int, imagenet_from: int = 65) -> bool:
    """Return whether a model has its stem for small images.

    Args:
        stem: the setting; `auto` decides by the size of the images.
        image_size: side of the images.
        imagenet_from: side from which `auto` means the stem for ImageNet.
    """
    return stem == "small" or (stem == "auto" and image_size < imagenet_from)


def small_strides(
    strides: Sequence[int],
    image_size: int,
    smallest: int,
    shrink: Callable[[int], int] = lambda side: -(-side // 2),
) -> tuple[list[int], int]:
    """Return a family's strides for small images, and the side of the last map.

    The earliest twos become ones: from the last on, as many twos are kept as leave a map of `smallest` pixels
    or more for the deep layers.

    Args:
        strides: 1 or 2 for each layer that may halve the map, in order.
        image_size: side of the images.
        smallest: least side of the last map.
        shrink: maps a side to that after one halving.

    Example:
        >>> small_strides([2, 2, 1, 2, 2], image_size=32, smallest=4)
        ([1, 2, 1, 2, 2], 4)
    """
    kept, side = [1] * len(strides), image_size
    for i in reversed(range(len(strides))):
        if strides[i] == 2 and shrink(side) >= smallest:
            kept[i], side = 2, shrink(side)
    return kept, side


def scaled(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded.

    Raises:
        ValueError: no channel is left.
    """
    if (count := round(channels * width)) < 1:
        raise ValueError(
            f"width={width}: leaves no channels of {channels}; allowed: {1 / channels:g} or more"
        )
    return count


def divisible(channels: float, by: int = 8) -> int:
    """Return the multiple of `by` nearest to `channels`, but never more than a tenth below it.

    This is the rule in the reference code of arXiv:1801.04381.
    """
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest if nearest >= 0.9 * channels else nearest + by


def last_side(features: nn.Module, in_channels: int, image_size: int, most: int) -> int:
    """Return the side of the last map of `features`, or `most` if it is larger, to size a small head to.

    Args:
        features: the layers in front of the head.
        in_channels: C of the images.
        image_size: H = W of the images.
        most: the largest side.

    Raises:
        OpsError: the images are too small for the layers (padding `valid` takes from them).
    """
    features.eval()  # batch norm must not learn from this
    try:
        with torch.no_grad(), running(features) as calls, checked(features):
            side = int(features(torch.zeros(1, in_channels, image_size, image_size)).shape[-1])
    except TooSmall as error:
        layer = f"features.{calls[-1]}"
        raise OpsError("small", f"images of {image_size} pixels ({layer}: {error})") from error
    features.train()
    return min(side, most)
