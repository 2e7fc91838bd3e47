"""Padding of convolutions, with or without shared weights: what it adds to a map, and what maps it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.errors import TooSmall

if TYPE_CHECKING:
    from cnnbench.ops.local import LocallyConnected2d


def padded(layer: nn.Conv2d | LocallyConnected2d, x: Tensor) -> Tensor:
    """Return a map (N, C, H, W) with the padding that a convolution gives it."""
    if getattr(layer, "same", False):
        pad = same_padding(x.shape[2:], layer.kernel_size, layer.stride)
    elif layer.padding == "same":  # torch's own: of stride 1
        totals = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
        pad = [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    else:
        rows, columns = (0, 0) if isinstance(layer.padding, str) else layer.padding
        pad = [columns, columns, rows, rows]
    if not any(pad):
        return x
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, pad, mode=mode)


def same_padding(sides: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Return what TensorFlow's rule adds to a map for ceil(side / stride) outputs, as `F.pad` takes it.

    Args:
        sides, kernel, stride: rows and columns.
    """
    pad = []
    for side, k, s in reversed(list(zip(sides, kernel, stride, strict=True))):
        total = max((-(-side // s) - 1) * s + k - side, 0)
        pad += [total // 2, total - total // 2]
    return pad


def check_convolution(layer: nn.Conv2d | LocallyConnected2d, sides: Sequence[int]) -> None:
    """Check that a convolution has windows on a map.

    Args:
        layer: with or without shared weights.
        sides: rows and columns of the map.

    Raises:
        TooSmall: it has none, or its padding takes more pixels from the map than there are.
    """
    if layer.padding == "same" or getattr(layer, "same", False):
        return  # as many pixels as the kernel needs
    padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
    for side, kernel, dilation, pixels in zip(sides, layer.kernel_size, layer.dilation, padding, strict=True):
        lent = {"reflect": side - 1, "circular": side}.get(layer.padding_mode, pixels)  # by the map itself
        if pixels > lent:
            raise TooSmall(f"{layer.padding_mode} padding of {pixels} pixels on a map of {side}")
        if (extent := dilation * (kernel - 1) + 1) > side + 2 * pixels:
            raise TooSmall(f"a kernel of {extent} pixels on a map of {side}")
