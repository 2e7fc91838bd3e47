"""The norms that torch does not have under the arguments of `ops.norm`: channels, eps, momentum.

The momentum is that of batch norm's running statistics, which these norms do not keep.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnbench.errors import TooSmall


class FilterResponseNorm(nn.Module):
    """Division of each channel by its root mean square over the map (arXiv:1911.09737).

    It has the paper's eps, since that of batch norm is ten times as large. Squares are taken in float32:
    in float16 those of 256 and more are infinite.
    """

    EPS = 1e-6

    def __init__(self, channels: int, eps: float, momentum: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        if x.shape[2] * x.shape[3] == 1:
            raise TooSmall("filter response norm of a single pixel")
        y = x.to(torch.promote_types(x.dtype, torch.float32))
        y = y * torch.rsqrt(y.square().mean((2, 3), keepdim=True) + self.EPS)
        return (y * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def group_norm(channels: int, eps: float, momentum: float) -> nn.GroupNorm:
    """Return group norm (arXiv:1803.08494) with `groups` of the channels."""
    return nn.GroupNorm(groups(channels), channels, eps)


def layer_norm(channels: int, eps: float, momentum: float) -> nn.GroupNorm:
    """Return layer norm (arXiv:1607.06450) over channels and pixels: a single group."""
    return nn.GroupNorm(1, channels, eps)


def instance_norm(channels: int, eps: float, momentum: float) -> nn.InstanceNorm2d:
    """Return instance norm (arXiv:1607.08022) with a weight and a bias for each channel."""
    return nn.InstanceNorm2d(channels, eps, affine=True)


def groups(channels: int) -> int:
    """Return the number of groups: 32 as in arXiv:1803.08494, or the next fewer that divides the channels.

    No group is a single channel, which would be instance norm; a prime number of channels is one group.
    """
    return max(g for g in range(1, 33) if channels % g == 0 and (channels >= 2 * g or g == 1))
