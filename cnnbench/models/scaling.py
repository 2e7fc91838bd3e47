"""What settings of architectures may be, and stems: how far a family may shrink small images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from cnnbench.errors import OpsError

Stem = Literal["auto", "imagenet", "small"]
Width = Annotated[float, Field(strict=True, gt=0, le=64)]
"""Factor of a family's channel counts."""
Probability = Annotated[float, Field(strict=True, ge=0, lt=1)]
"""Of dropping a unit or a block."""


def is_small(stem: Stem, image_size: int, imagenet_from: int = 65) -> bool:
    """Whether a model takes its stem for small images: as `stem` says, or up to 64 pixels."""
    return stem == "small" or (stem == "auto" and image_size < imagenet_from)


def small_strides(
    strides: Sequence[int],
    image_size: int,
    smallest: int,
    shrink: Callable[[int], int] = lambda side: -(-side // 2),
) -> tuple[list[int], int]:
    """The strides of a family's stem for small images, and the side of the last map.

    The earliest twos become ones: as many are kept, from the last, as leave a map of `smallest` pixels
    or more, so that the deep layers have something to look at.

    Args:
        strides: that of each place where the family may halve its map, in order; 1 or 2.
        image_size: side of the images.
        smallest: least side of the last map.
        shrink: the side after one halving.

    Example:
        >>> small_strides([2, 2, 1, 2, 2], image_size=32, smallest=4)
        ([1, 2, 1, 2, 2], 4)
    """
    left, side = [1] * len(strides), image_size
    for place in reversed(range(len(strides))):
        if strides[place] == 2 and shrink(side) >= smallest:
            left[place], side = 2, shrink(side)
    return left, side


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded.

    Raises:
        ValueError: none would be left.
    """
    if (count := round(channels * width)) < 1:
        raise ValueError(
            f"width={width}: leaves no channels of {channels}; allowed: {1 / channels:g} or more"
        )
    return count


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of `by` nearest to `channels`, but never more than a tenth below it.

    The rule of the reference code of arXiv:1801.04381.
    """
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest if nearest >= 0.9 * channels else nearest + by


def last_side(features: nn.Module, in_channels: int, image_size: int, most: int) -> int:
    """The side of the map that `features` make, or `most` if it is larger: what a small head is sized to.

    Raises:
        OpsError: the images are too small for the layers (padding `valid` takes from them).
    """
    features.eval()  # batch norm must not learn from this
    try:
        with torch.no_grad():
            side = int(features(torch.zeros(1, in_channels, image_size, image_size)).shape[-1])
    except (RuntimeError, ValueError) as error:
        raise OpsError("small", f"{image_size} pixels ({str(error).splitlines()[0]})") from error
    features.train()
    return min(side, most)
