"""Normalisation layers by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class FilterResponseNorm(nn.Module):
    """Divides each channel by its root mean square over the map (arXiv:1911.09737, without the TLU)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if x.shape[2] * x.shape[3] == 1:
            raise ValueError("filter response norm needs more than one pixel")
        x = x * torch.rsqrt(x.square().mean((2, 3), keepdim=True) + self.eps)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def groups(channels: int) -> int:
    """Groups of group norm: 32 as in arXiv:1803.08494, or the next fewer that divides the channels.

    No group is a single channel, which would be instance norm; a prime number of channels is one group.
    """
    return max(g for g in range(1, 33) if channels % g == 0 and (channels >= 2 * g or g == 1))


NORMS: dict[str, Callable[[int, float, float], nn.Module]] = {
    "batch": lambda c, eps, momentum: nn.BatchNorm2d(c, eps, momentum),  # arXiv:1502.03167
    "group": lambda c, eps, _: nn.GroupNorm(groups(c), c, eps),  # arXiv:1803.08494
    "layer": lambda c, eps, _: nn.GroupNorm(1, c, eps),  # arXiv:1607.06450, over channels and pixels
    "instance": lambda c, eps, _: nn.InstanceNorm2d(c, eps, affine=True),  # arXiv:1607.08022
    "frn": lambda c, eps, _: FilterResponseNorm(c, eps),  # arXiv:1911.09737
    "none": lambda c, eps, _: nn.Identity(),
}
