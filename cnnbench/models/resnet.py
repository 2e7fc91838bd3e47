"""Deep Residual Learning for Image Recognition (He et al. 2015, arXiv:1512.03385): table 1.

The paper's networks for CIFAR-10 are in `resnet_cifar`, the building blocks of both in `resnet_blocks`.
"""

from __future__ import annotations

from torch import nn

from cnnbench.models.resnet_blocks import BasicBlock, Bottleneck, ResNet, projection
from cnnbench.models.scaling import Probability, Stem, Width, is_small, scaled, small_strides
from cnnbench.ops.factory import Ops

BLOCKS: dict[int, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
    101: (Bottleneck, [3, 4, 23, 3]),
    152: (Bottleneck, [3, 8, 36, 3]),
}


def resnet(
    *,
    ops: Ops,
    in_channels: int,
    num_classes: int,
    image_size: int,
    depth: int,
    width: Width = 1.0,
    zero_init: bool = False,
    stochastic_depth: Probability = 0.0,
    stem: Stem = "auto",
) -> nn.Module:
    """Return a ResNet; images up to 64 pixels get a 3x3 first convolution and are halved less often.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        depth: 18, 34, 50, 101 or 152 layers.
        width: multiplies every channel count.
        zero_init: start each block as its shortcut alone (arXiv:1706.02677).
        stochastic_depth: probability of dropping the last block (arXiv:1603.09382).
        stem: see `cnnbench.models.scaling`.

    Raises:
        ValueError: another depth, or `width` leaves no channels.
        OpsError: see `cnnbench.ops.factory`.
    """
    if depth not in BLOCKS:
        raise ValueError(f"depth={depth}: allowed: {', '.join(map(str, BLOCKS))}")
    channels = [scaled(c, width) for c in (64, 128, 256, 512)]
    strides = [2, 2, 1, 2, 2, 2]
    if small := is_small(stem, image_size):
        strides, _ = small_strides(strides, image_size, smallest=4)
    layers = {
        "conv1": ops.conv(in_channels, channels[0], 3 if small else 7, strides[0]),
        "bn1": ops.norm(channels[0]),
        "act1": ops.act(channels[0]),
        "maxpool": ops.pool(3, 2, padding=1) if strides[1] == 2 else nn.Identity(),
    }
    block, blocks = BLOCKS[depth]
    return ResNet(
        ops,
        layers,
        block,
        projection,
        channels,
        blocks,
        strides[2:],
        num_classes,
        zero_init=zero_init,
        stochastic_depth=stochastic_depth,
    )
