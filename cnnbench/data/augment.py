"""Augmentation of whole batches, each image drawn on its own, from an explicit generator.

All functions take and return (N, C, H, W) and stay on the tensor's device. Of a batch that several processes
share, each draws for all images and keeps its own: the images are then cut as one process would cut them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class BatchShard(NamedTuple):
    """Which images of a batch of `total` these are."""

    total: int
    mine: slice


def random_crop(
    images: Tensor, padding: int, generator: torch.Generator, part: BatchShard | None = None
) -> Tensor:
    """Pad with zeros on every side, then cut out the original size at a random place."""
    _, _, h, w = images.shape
    total, mine = part or BatchShard(len(images), slice(None))
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # (N, C, 2p+1, 2p+1, H, W), a view
    drawn = torch.randint(2 * padding + 1, (2, total), generator=generator, device=images.device)
    top, left = drawn[:, mine]
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def random_flip(images: Tensor, generator: torch.Generator, part: BatchShard | None = None) -> Tensor:
    """Mirror left and right, every second image on average."""
    total, mine = part or BatchShard(len(images), slice(None))
    columns = torch.arange(images.shape[3], device=images.device)
    chosen = torch.rand((total, 1), generator=generator, device=images.device)[mine] < 0.5
    taken = torch.where(chosen, columns.flip(0), columns)  # (N, W): the column that each one is taken from
    return images.gather(3, taken[:, None, None].expand_as(images))


def cutout(images: Tensor, side: int, generator: torch.Generator, part: BatchShard | None = None) -> Tensor:
    """Set a square around a random centre to 0, clipped at the border (arXiv:1708.04552)."""
    _, _, h, w = images.shape
    total, mine = part or BatchShard(len(images), slice(None))
    y, x = (
        torch.arange(size, device=images.device)
        - torch.randint(size, (total, 1), generator=generator, device=images.device)[mine]
        for size in (h, w)
    )
    rows, columns = ((-(side // 2) <= d) & (d < side - side // 2) for d in (y, x))
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 in [0, 255] to float32 with the data set's mean 0 and deviation 1, per channel."""
    m, s = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) * 255 for v in (mean, std))
    return images.to(torch.float32, copy=True).sub_(m).div_(s)  # one allocation: memory is the bottleneck
