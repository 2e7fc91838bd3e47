"""Pooling layers that torch does not have; each maps (N, C, H, W) to (N, C, H', W') as `nn.MaxPool2d` does.

None has parameters. The middle of a window of even size is the pixel left above its centre.
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
    """Base class with the geometry of the windows.

    Args:
        kernel, stride, padding, ceil_mode: as of `nn.MaxPool2d`.
    """

    def __init__(self, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.ceil_mode = kernel, stride, padding, ceil_mode
        self.middle = (kernel - 1) // 2 - padding  # of the first window

    def extra_repr(self) -> str:
        """Return the geometry, for printing."""
        return f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"

    def outputs(self, side: int) -> int:
        """Return the number of windows along a side.

        Raises:
            TooSmall: there is none.
        """
        return windows(side, self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)


class Stride(Window):
    """Middle pixel of each window, as a strided convolution in front would compute it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        (rows, below), (columns, right) = (self._reach(side) for side in x.shape[2:])
        left = max(0, -self.middle)
        if left or below or right:  # where the middle is outside the map, the pixel at the edge counts
            x = F.pad(x, (left, right, left, below), mode="replicate")
        start = self.middle + left
        return x[:, :, start :: self.stride, start :: self.stride][:, :, :rows, :columns]

    def _reach(self, side: int) -> tuple[int, int]:
        """Return the number of windows, and by how many pixels the middle of the last exceeds the map."""
        count = self.outputs(side)
        return count, max(0, (count - 1) * self.stride + self.middle - side + 1)


class Lp(Window):
    """Root mean square of each window (p = 2, arXiv:1311.1780)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        square = x.to(torch.promote_types(x.dtype, torch.float32)).square()  # float16 overflows at 65,504
        mean = F.avg_pool2d(square, self.kernel, self.stride, self.padding, self.ceil_mode)
        return (mean + 1e-12).pow(0.5).to(x.dtype)  # the constant keeps the gradient at zero finite


class Blur(Window):
    """Binomial low-pass filter around each window's middle (arXiv:1904.11486).

    It is as wide as the window, or a pixel wider if the size of the window is even. The edge of the map is
    replicated.
    """

    weight: Tensor

    def __init__(self, kernel: int, stride: int, padding: int, ceil_mode: bool) -> None:
        super().__init__(kernel, stride, padding, ceil_mode)
        self.taps = kernel + 1 - kernel % 2
        line = torch.tensor([comb(self.taps - 1, i) for i in range(self.taps)], dtype=torch.float32)
        self.register_buffer("weight", torch.outer(line, line) / line.sum() ** 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
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
    """Maximum around each pixel, then `Blur`: the anti-aliased max pooling of arXiv:1904.11486."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        left = (self.kernel - 1) // 2
        right = self.kernel - 1 - left
        dense = F.max_pool2d(F.pad(x, (left, right, left, right), value=-torch.inf), self.kernel, 1)
        return super().forward(dense)


class Mixed(Window):
    """Half the maximum and half the mean of each window (arXiv:1509.08985)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        geometry = self.kernel, self.stride, self.padding
        most = F.max_pool2d(x, *geometry, ceil_mode=self.ceil_mode)
        return most / 2 + F.avg_pool2d(x, *geometry, ceil_mode=self.ceil_mode) / 2  # the sum may overflow


class Stochastic(Window):
    """Value of each window, drawn in proportion to its positive part (arXiv:1301.3557).

    If no value is positive, all are equally probable. In evaluation the layer returns the expected value.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        values = self._windows(x)
        inside = self._windows(torch.ones_like(x[:1, :1]))
        weights = values.detach().relu().to(torch.promote_types(x.dtype, torch.float32))
        weights = torch.where(weights.sum(-1, keepdim=True) > 0, weights, inside)
        total = weights.cumsum(-1)
        if not self.training:
            return ((values * weights).sum(-1) / total[..., -1]).to(x.dtype)
        threshold = torch.rand_like(total[..., :1]) * total[..., -1:]
        drawn = (total <= threshold).sum(-1, keepdim=True).clamp(max=total.shape[-1] - 1)
        return values.gather(-1, drawn)[..., 0]

    def _windows(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W', kernel * kernel), zero where a window exceeds the map."""
        rows, columns = self.outputs(x.shape[2]), self.outputs(x.shape[3])
        right, below = (
            max(0, (count - 1) * self.stride + self.kernel - self.padding - side)
            for count, side in ((columns, x.shape[3]), (rows, x.shape[2]))
        )
        padded = F.pad(x, (self.padding, right, self.padding, below))
        windows = padded.unfold(2, self.kernel, self.stride).unfold(3, self.kernel, self.stride)
        return windows[:, :, :rows, :columns].flatten(-2)
