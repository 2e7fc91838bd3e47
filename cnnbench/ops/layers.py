"""Convolutions and linear layers whose weights `Ops` initialises, and an activation that torch lacks.

Convolutions and linear layers have a `shift` if `ops.init=fixup`: a learned scalar, added to their input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.ops.padding import same_padding
from cnnbench.ops.values import Fill

Pair = tuple[int, int]
"""Rows and columns."""


class Conv2d(nn.Conv2d):
    """Convolution with its padding, followed by pooling where that replaces its stride.

    The parameters have the names of `nn.Conv2d`, for any padding and pooling.

    Args:
        c_in, c_out: channels.
        kernel: rows and columns.
        stride: in pixels.
        padding: pixels at each side, rows and columns; None: TensorFlow's rule `same`.
        fill: what they are filled with.
        groups: groups of channels.
        bias: add one.
        down: pooling in place of the stride, or `nn.Identity`.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Pair,
        stride: int,
        padding: Pair | None,
        fill: Fill,
        groups: int,
        bias: bool,
        down: nn.Module,
    ) -> None:
        pad = padding or (0, 0)
        super().__init__(c_in, c_out, kernel, stride, pad, groups=groups, bias=bias, padding_mode=fill)
        self.same, self.down = padding is None, down
        self.shift: nn.Parameter | None = None

    def reset_parameters(self) -> None:
        """Do nothing: `Ops` draws the weights, since they depend on the activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H', W')."""
        if self.shift is not None:
            x = x + self.shift
        if self.same:
            x = F.pad(x, same_padding(x.shape[2:], self.kernel_size, self.stride))
        return self.down(super().forward(x))  # type: ignore[no-any-return]


class Linear(nn.Linear):
    """Fully connected layer."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out)
        self.shift: nn.Parameter | None = None

    def reset_parameters(self) -> None:
        """Do nothing: `Ops` draws the weights, since they depend on the activation."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in) to (N, c_out)."""
        return super().forward(x if self.shift is None else x + self.shift)


class ThresholdedLinear(nn.Module):
    """Maximum of the input and a learned threshold per channel, which starts at 0 (arXiv:1911.09737)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, …) to (N, C, …)."""
        threshold = self.threshold.to(x.dtype).view(-1, *[1] * (x.ndim - 2))
        return torch.maximum(x, threshold)
