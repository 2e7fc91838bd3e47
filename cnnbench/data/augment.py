"""Augmentation of whole batches, each image drawn on its own, from an explicit generator.

All functions take and return (N, C, H, W) and stay on the tensor's device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad with zeros on every side, then cut out the original size at a random place."""
    n, _, h, w = images.shape
    padded = F.pad(images, (padding,) * 4)
    windows = padded.unfold(2, h, 1).unfold(3, w, 1)  # (N, C, 2p+1, 2p+1, H, W), a view
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator, device=images.device)
    return windows[torch.arange(n, device=images.device), :, top, left]


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror left and right, every second image on average."""
    columns = torch.arange(images.shape[3], device=images.device)
    chosen = torch.rand((len(images), 1), generator=generator, device=images.device) < 0.5
    taken = torch.where(chosen, columns.flip(0), columns)  # (N, W): the column that each one is taken from
    return images.gather(3, taken[:, None, None].expand_as(images))


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Set a square around a random centre to 0, clipped at the border (arXiv:1708.04552)."""
    n, _, h, w = images.shape
    y, x = (
        torch.arange(size, device=images.device)
        - torch.randint(size, (n, 1), generator=generator, device=images.device)
        for size in (h, w)
    )
    rows, columns = ((-(side // 2) <= d) & (d < side - side // 2) for d in (y, x))
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 in [0, 255] to float32 with the data set's mean 0 and deviation 1, per channel."""
    m, s = (torch.tensor(v, device=images.device).view(1, -1, 1, 1) * 255 for v in (mean, std))
    return images.to(torch.float32, copy=True).sub_(m).div_(s)  # one allocation: memory is the bottleneck
