"""Pooling windows: each kind maps (N, C, H, W) to (N, C, H', W') as `nn.MaxPool2d` of that geometry does.

None has parameters. Where a window has no middle pixel, the one left above it counts as the middle.
"""

from __future__ import annotations

from math import comb

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.errors import TooSmall


def windows(side: int, kernel: int, stride: int, padding: int, dilation: int = 1, *, ceil_mode: bool) -> int:
    """Return the number of windows along a side, by the rule of `nn.MaxPool2d`.

    Raises:
        TooSmall: there is none.
    """
    extent = dilation * (kernel - 1) + 1
    free = side + 2 * padding - extent
    count = (-(-free // stride) if ceil_mode else free // stride) + 1
    if ceil_mode and (count - 1) * stride >= side + padding:
        count -= 1  # a window must start within the map or its left padding
    if count < 1:
        raise TooSmall(f"a window of {extent} pixels on a map of {side}")
    return count


class Window(nn.Module):
    """The geometry that the kinds below share."""

    def __init__(self, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.ceil_mode = kernel, stride, padding, ceil_mode
        self.middle = (kernel - 1) // 2 - padding  # of the first window

    def extra_repr(self) -> str:
        """The geometry, for printing."""
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"

    def outputs(self, side: int) -> int:
        """Windows along a side, by the rule of `nn.MaxPool2d`."""
        return windows(side, self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)


class Stride(Window):
    """The middle pixel of each window: what a strided convolution in front would have computed."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        (rows, below), (columns, right) = (self._reach(side) for side in x.shape[2:])
        left = max(0, -self.middle)
        if left or below or right:  # a middle outside the map stands for the pixel at its edge
            x = F.pad(x, (left, right, left, below), mode="replicate")
        start = self.middle + left
        return x[:, :, start :: self.stride, start :: self.stride][:, :, :rows, :columns]

    def _reach(self, side: int) -> tuple[int, int]:
        """How many windows there are, and how far the middle of the last is past the end."""
        count = self.outputs(side)
        return count, max(0, (count - 1) * self.stride + self.middle - side + 1)


class Lp(Window):
    """The root mean square of each window (p = 2, arXiv:1311.1780)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        square = x.to(torch.promote_types(x.dtype, torch.float32)).square()  # float16 ends at 65,504
        mean = F.avg_pool2d(square, self.kernel, self.stride, self.padding, self.ceil_mode)
        return (mean + 1e-12).pow(0.5).to(x.dtype)  # the constant: or the gradient at zero is not finite


class Blur(Window):
    """A binomial low-pass filter around each window's middle, as wide as the window or a pixel more
    where that has no middle (arXiv:1904.11486); the map's edge is replicated.
    """

    weight: Tensor

    def __init__(self, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
        super().__init__(kernel, stride, padding, ceil_mode)
        self.taps = kernel + 1 - kernel % 2
        line = torch.tensor([comb(self.taps - 1, i) for i in range(self.taps)], dtype=torch.float32)
        self.register_buffer("weight", torch.outer(line, line) / line.sum() ** 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        rows, columns = self.outputs(x.shape[2]), self.outputs(x.shape[3])
        left = self.taps // 2 - self.middle
        right, below = (
            max(0, (count - 1) * self.stride + self.taps - left - side)
            for count, side in ((columns, x.shape[3]), (rows, x.shape[2]))
        )
        padded = F.pad(x, (left, right, left, below), mode="replicate")
        channels = x.shape[1]
        weight = self.weight.to(x.dtype).expand(channels, 1, self.taps, self.taps)
        return F.conv2d(padded, weight, stride=self.stride, groups=channels)[:, :, :rows, :columns]


class MaxBlur(Blur):
    """The greatest value around each pixel, then `Blur`: the anti-aliased max pooling of arXiv:1904.11486."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        left = (self.kernel - 1) // 2
        right = self.kernel - 1 - left
        dense = F.max_pool2d(F.pad(x, (left, right, left, right), value=-torch.inf), self.kernel, 1)
        return super().forward(dense)


class Mixed(Window):
    """Half the maximum and half the mean of each window (arXiv:1509.08985)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        geometry = self.kernel, self.stride, self.padding
        most = F.max_pool2d(x, *geometry, ceil_mode=self.ceil_mode)
        return (most + F.avg_pool2d(x, *geometry, ceil_mode=self.ceil_mode)) / 2


class Stochastic(Window):
    """A value of each window, drawn in proportion to what is positive of it (arXiv:1301.3557).

    Where nothing is positive, all are equally probable. In evaluation it is the expected value.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W')."""
        values = self._windows(x)
        inside = self._windows(torch.ones_like(x[:1, :1]))
        weights = values.detach().relu().to(torch.promote_types(x.dtype, torch.float32))
        weights = torch.where(weights.sum(-1, keepdim=True) > 0, weights, inside)
        total = weights.cumsum(-1)
        if not self.training:
            return ((values * weights).sum(-1) / total[..., -1]).to(x.dtype)
        drawn = torch.rand_like(total[..., :1]) * total[..., -1:]
        chosen = (total <= drawn).sum(-1, keepdim=True).clamp(max=total.shape[-1] - 1)
        return values.gather(-1, chosen)[..., 0]

    def _windows(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H', W', kernel * kernel), zero where a window leaves the map."""
        rows, columns = self.outputs(x.shape[2]), self.outputs(x.shape[3])
        right, below = (
            max(0, (count - 1) * self.stride + self.kernel - self.padding - side)
            for count, side in ((columns, x.shape[3]), (rows, x.shape[2]))
        )
        padded = F.pad(x, (self.padding, right, self.padding, below))
        windows = padded.unfold(2, self.kernel, self.stride).unfold(3, self.kernel, self.stride)
        return windows[:, :, :rows, :columns].flatten(-2)
