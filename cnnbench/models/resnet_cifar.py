"""Deep Residual Learning for Image Recognition (He et al. 2015, arXiv:1512.03385): section 4.2."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.models.resnet_blocks import BasicBlock, ResNet
from cnnbench.models.scaling import Probability, Width, scaled
from cnnbench.ops.factory import Ops


class PaddedShortcut(nn.Module):
    """Shortcut of option A: downsampling, and zeros in the new channels; it has no parameters."""

    def __init__(self, ops: Ops, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.down = ops.down(stride) if stride > 1 else nn.Identity()
        self.new_channels = c_out - c_in

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride), rounded up."""
        return F.pad(self.down(x), (0, 0, 0, 0, 0, self.new_channels))


def cifar_resnet(
    *,
    ops: Ops,
    in_channels: int,
    num_classes: int,
    depth: int,
    width: Width = 1.0,
    zero_init: bool = False,
    stochastic_depth: Probability = 0.0,
) -> nn.Module:
    """Return a ResNet for small images, with 16, 32 and 64 channels and shortcuts of option A.

    Args:
        ops, in_channels, num_classes: see `cnnbench.models`.
        depth: 6n + 2 layers.
        width: multiplies every channel count.
        zero_init: start each block as its shortcut alone (arXiv:1706.02677).
        stochastic_depth: probability of dropping the last block (arXiv:1603.09382).

    Raises:
        ValueError: another depth, or `width` leaves no channels.
        OpsError: see `cnnbench.ops.factory`.
    """
    return _cifar(
        ops, in_channels, num_classes, depth, width, PaddedShortcut,
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
    shortcut: type[PaddedShortcut] | None,
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
