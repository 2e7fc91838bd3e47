"""Convolution without shared weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cnnbench.ops.layers import Pair
from cnnbench.ops.padding import check_convolution, padded
from cnnbench.ops.values import Fill


class LocallyConnected2d(nn.Module):
    """Locally connected layer: a convolution that has weights of its own at each place of the map.

    It has the geometry, and costs the multiply-accumulates, of the convolution that shares them.

    Args:
        c_in, c_out, kernel, stride, padding, fill, bias, down: as of `cnnbench.ops.layers.Conv2d`; the stride
            by rows and columns.
        side: rows and columns of the map.

    Raises:
        TooSmall: the map has no window.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Pair,
        stride: Pair,
        padding: Pair | None,
        fill: Fill,
        bias: bool,
        down: nn.Module,
        side: Pair,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = c_in, c_out, 1
        self.kernel_size, self.stride, self.dilation = kernel, stride, (1, 1)
        self.padding, self.padding_mode, self.same = padding or (0, 0), fill, padding is None
        self.down = down
        self.shift: nn.Parameter | None = None
        check_convolution(self, side)
        rows, columns = padded(self, torch.zeros(1, 1, *side, device="meta")).shape[2:]
        self.places = (rows - kernel[0]) // stride[0] + 1, (columns - kernel[1]) // stride[1] + 1
        count = self.places[0] * self.places[1]
        self.weight = nn.Parameter(torch.empty(count, c_out, c_in * kernel[0] * kernel[1]))
        # In one dimension, as all biases: they have no weight decay.
        self.bias = nn.Parameter(torch.empty(c_out * count)) if bias else None

    def extra_repr(self) -> str:
        """Return the geometry, for printing."""
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{channels}, kernel_size={self.kernel_size}, stride={self.stride}, places={self.places}"

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H', W')."""
        if self.shift is not None:
            x = x + self.shift
        x = padded(self, x)
        for axis in (0, 1):
            x = x.unfold(2 + axis, self.kernel_size[axis], self.stride[axis])
        # (N, c_in, H', W', k, k) -> (H'W', c_in k k, N) -> (H'W', c_out, N)
        x = torch.bmm(self.weight, x.permute(2, 3, 1, 4, 5, 0).flatten(2, 4).flatten(0, 1))
        # Not a view: with the strides of one, torch's batch norm computes a wrong gradient of a single image.
        x = x.permute(2, 1, 0).reshape(-1, self.out_channels, *self.places).contiguous()
        if self.bias is not None:
            x = x + self.bias.view(self.out_channels, *self.places)
        return self.down(x)  # type: ignore[no-any-return]
