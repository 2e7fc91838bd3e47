"""Augmentation of batches with an explicit generator; the draws of each image are its own.

All functions take and return (N, C, H, W) and stay on the tensor's device. Processes that share a batch each
draw for all of its images and use the draws of their shard: images are augmented as by a single process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

AREA = 0.02, 0.33
RATIO = 0.3, 3.3


class BatchShard(NamedTuple):
    """Shard of a batch that several processes share.

    Attributes:
        total: images of the batch.
        rows: those of this process.
    """

    total: int
    rows: slice

    @property
    def images(self) -> int:
        """Number of images of this process."""
        return int(self.rows.stop - self.rows.start)


def random_crop(
    images: Tensor, padding: int, generator: torch.Generator, shard: BatchShard | None = None
) -> Tensor:
    """Pad with zeros on every side, then crop to the original size at a random position."""
    _, _, h, w = images.shape
    total, rows = shard or BatchShard(len(images), slice(None))
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # (N, C, 2p+1, 2p+1, H, W), a view
    drawn = torch.randint(2 * padding + 1, (2, total), generator=generator, device=images.device)
    top, left = drawn[:, rows]
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def random_flip(images: Tensor, generator: torch.Generator, shard: BatchShard | None = None) -> Tensor:
    """Mirror images left and right with probability 1/2."""
    total, rows = shard or BatchShard(len(images), slice(None))
    columns = torch.arange(images.shape[3], device=images.device)
    flipped = torch.rand((total, 1), generator=generator, device=images.device)[rows] < 0.5
    source = torch.where(flipped, columns.flip(0), columns)  # (N, W): column that each pixel is taken from
    return images.gather(3, source[:, None, None].expand_as(images))


def cutout(images: Tensor, side: int, generator: torch.Generator, shard: BatchShard | None = None) -> Tensor:
    """Set a square around a random centre to zero, clipped at the border (arXiv:1708.04552)."""
    _, _, h, w = images.shape
    total, rows = shard or BatchShard(len(images), slice(None))
    y, x = (
        torch.arange(size, device=images.device)
        - torch.randint(size, (total, 1), generator=generator, device=images.device)[rows]
        for size in (h, w)
    )
    in_row, in_column = ((-(side // 2) <= d) & (d < side - side // 2) for d in (y, x))
    return images.masked_fill((in_row[:, :, None] & in_column[:, None, :])[:, None], 0.0)


def erase(
    images: Tensor, probability: float, generator: torch.Generator, shard: BatchShard | None = None
) -> Tensor:
    """Set a random rectangle to zero with a probability (random erasing, arXiv:1708.04896).

    Its area is a uniform share of 2 to 33 % of the image, the ratio of its sides log-uniform from 0.3 to 3.3,
    as in torchvision; a side that is longer than the image is cut to it.
    """
    _, _, h, w = images.shape
    total, rows = shard or BatchShard(len(images), slice(None))
    drawn = torch.rand((5, total, 1), generator=generator, device=images.device)[:, rows]
    erased, top, left = drawn[0] < probability, drawn[1], drawn[2]
    area = h * w * (AREA[0] + (AREA[1] - AREA[0]) * drawn[3])
    ratio = RATIO[0] * (RATIO[1] / RATIO[0]) ** drawn[4]  # of height to width
    inside = []
    for size, start, side in ((h, top, (area * ratio).sqrt()), (w, left, (area / ratio).sqrt())):
        length = side.round().clamp(1, size)
        first = (start * (size - length + 1)).floor()
        position = torch.arange(size, device=images.device)
        inside.append((first <= position) & (position < first + length))
    in_row, in_column = inside
    return images.masked_fill((in_row[:, :, None] & in_column[:, None, :] & erased[:, None])[:, None], 0.0)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Convert uint8 in [0, 255] to float32, of mean 0 and deviation 1 per channel over the data set.

    Args:
        images: (N, C, H, W).
        mean, std: of pixels in [0, 1], for each channel or one for all.
    """
    m, s = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) * 255 for v in (mean, std))
    return images.to(torch.float32, copy=True).sub_(m).div_(s)  # one allocation: memory is the bottleneck
