"""Deep Residual Learning for Image Recognition (He et al. 2015, arXiv:1512.03385): section 4.2."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.models.resnet_blocks import BasicBlock, ResNet, Shortcut
from cnnbench.models.scaling import Probability, Width, scaled
from cnnbench.ops.factory import Ops

Zeros = Literal["after", "around"]


class PaddedShortcut(nn.Module):
    """Shortcut of option A: downsampling, and zeros in the new channels; it has no parameters.

    The paper does not say which channels are new. A network with new ones on both sides computes the same as
    one with new ones at the end whose channels are in another order; their weights differ by that order.

    Args:
        ops: makes the downsampling.
        c_in, c_out, stride: of the block.
        zeros: the new channels come after those of the input, or half of them before and half after.
    """

    def __init__(self, ops: Ops, c_in: int, c_out: int, stride: int, zeros: Zeros = "after") -> None:
        super().__init__()
        self.down = ops.down(stride) if stride > 1 else nn.Identity()
        new = c_out - c_in
        before = new // 2 if zeros == "around" else 0
        self.new_channels = before, new - before

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride), rounded up."""
        return F.pad(self.down(x), (0, 0, 0, 0, *self.new_channels))


def cifar_resnet(
    *,
    ops: Ops,
    in_channels: int,
    num_classes: int,
    depth: int,
    width: Width = 1.0,
    zero_init: bool = False,
    stochastic_depth: Probability = 0.0,
    shortcut_zeros: Zeros = "after",
) -> nn.Module:
    """Return a ResNet for small images, with 16, 32 and 64 channels and shortcuts of option A.

    Args:
        ops, in_channels, num_classes: see `cnnbench.models`.
        depth: 6n + 2 layers.
        width: multiplies every channel count.
        zero_init: start each block as its shortcut alone (arXiv:1706.02677).
        stochastic_depth: probability of dropping the last block (arXiv:1603.09382).
        shortcut_zeros: position of a shortcut's new channels: `after` those of its input, or `around` them.

    Raises:
        ValueError: another depth, or `width` leaves no channels.
        OpsError: see `cnnbench.ops.factory`.
    """
    return _cifar(
        ops, in_channels, num_classes, depth, width, partial(PaddedShortcut, zeros=shortcut_zeros),
        zero_init=zero_init, stochastic_depth=stochastic_depth,
    )  # fmt: skip


def cifar_plain(*, ops: Ops, in_channels: int, num_classes: int, depth: int, width: Width = 1.0) -> nn.Module:
    """Return a plain net of the same section: `cifar_resnet` without its shortcuts, with the same parameters.

    Raises:
        ValueError, OpsError: see `cifar_resnet`.
    """
    return _cifar(ops, in_channels, num_classes, depth, width, None)


def _cifar(
    ops: Ops,
    in_channels: int,
    num_classes: int,
    depth: int,
    width: float,
    shortcut: Shortcut | None,
    *,
    zero_init: bool = False,
    stochastic_depth: float = 0.0,
) -> ResNet:
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth={depth}: allowed: 6n + 2, that is 8, 14, 20, 26, 32, …")
    channels = [scaled(c, width) for c in (16, 32, 64)]
    stem = {
        "conv1": ops.conv(in_channels, channels[0], 3),
        "bn1": ops.norm(channels[0]),
        "act1": ops.act(channels[0]),
    }
    return ResNet(
        ops,
        stem,
        BasicBlock,
        shortcut,
        channels,
        [(depth - 2) // 6] * 3,
        [1, 2, 2],
        num_classes,
        zero_init=zero_init,
        stochastic_depth=stochastic_depth,
    )
