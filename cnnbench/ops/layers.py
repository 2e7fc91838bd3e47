"""Convolutions and linear layers that know how to be initialised."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Pair = tuple[int, int]

Mode = Literal["zeros", "reflect", "replicate", "circular"]


class Conv2d(nn.Conv2d):
    """A convolution with its padding and, where pooling takes the place of its stride, that pooling.

    Parameters are those of `nn.Conv2d`, whatever the padding and the pooling.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: Pair,
        stride: int,
        padding: Pair | None,
        mode: Mode,
        groups: int,
        bias: bool,
        down: nn.Module,
    ) -> None:
        pad = padding or (0, 0)
        super().__init__(c_in, c_out, kernel, stride, pad, groups=groups, bias=bias, padding_mode=mode)
        self.same, self.down = padding is None, down

    def reset_parameters(self) -> None:
        """Left to `Ops`, which knows the activation."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, c_in, H, W) -> (N, c_out, H', W')."""
        if self.same:
            rows, columns = (self._total(x.shape[2 + i], i) for i in (0, 1))
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return self.down(super().forward(x))  # type: ignore[no-any-return]

    def _total(self, side: int, axis: int) -> int:
        """Pixels that TensorFlow's rule adds to `side`, for ceil(side / stride) outputs."""
        stride = self.stride[axis]
        return max((-(-side // stride) - 1) * stride + self.kernel_size[axis] - side, 0)


class Linear(nn.Linear):
    """A fully connected layer that `Ops` initialises."""

    def reset_parameters(self) -> None:
        """Left to `Ops`, which knows the activation."""
