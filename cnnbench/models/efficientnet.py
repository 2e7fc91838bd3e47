"""EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan & Le 2019,
arXiv:1905.11946).
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.models.mobilenet_v2 import conv_norm_act
from cnnbench.models.scaling import Probability, Stem, Width, divisible, is_small, small_strides
from cnnbench.ops.factory import Ops
from cnnbench.ops.residual import StochasticDepth

Coefficient = Annotated[float, Field(strict=True, gt=0, le=10)]
Positive = Annotated[float, Field(strict=True, gt=0, le=1)]

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Table 1, B0: expansion, kernel, stride of the first block, channels, blocks."""


class SqueezeExcitation(nn.Module):
    """Channels scaled by factors in (0, 1), computed from the means of all channels (arXiv:1709.01507).

    The sigmoid is a gate, which `ops.act` does not replace; it does replace the activation between the
    layers.
    """

    def __init__(self, ops: Ops, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = ops.conv(channels, squeezed, 1, bias=True)
        self.act = ops.act(squeezed)
        self.fc2 = ops.conv(squeezed, channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        scale = self.fc2(self.act(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        return scale.sigmoid() * x  # type: ignore[no-any-return]


class MBConv(nn.Module):
    """MobileNetV2's inverted residual with squeeze-and-excitation and stochastic depth."""

    def __init__(
        self,
        ops: Ops,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int,
        expansion: int,
        drop: float,
        bn: tuple[float, float],
    ) -> None:
        super().__init__()
        hidden = divisible(c_in * expansion)
        layers = [] if hidden == c_in else [conv_norm_act(ops, c_in, hidden, 1, bn=bn)]
        layers.append(conv_norm_act(ops, hidden, hidden, kernel, stride, groups=hidden, bn=bn))
        gate = SqueezeExcitation(ops, hidden, max(1, c_in // 4))
        project, norm = ops.conv(hidden, c_out, 1), ops.norm(c_out, eps=bn[0], momentum=bn[1])
        self.block = nn.Sequential(*layers, gate, nn.Sequential(project, norm))
        self.residual = stride == 1 and c_in == c_out
        if self.residual:
            self.end = ops.branch([*(layer[0] for layer in layers), project], norm)
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride), rounded up."""
        y = self.block(x)
        return x + self.drop(self.end(y)) if self.residual else y  # type: ignore[no-any-return]


class EfficientNet(nn.Module):
    """Seven stages of MBConv between a 3x3 and a 1x1 convolution, and global average pooling.

    Images up to 64 pixels are halved less often. Channels are multiples of 8.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        width_coefficient, depth_coefficient: scaling from B0 to B1 to B7 (section 3.3).
        width: multiplies every channel count in addition.
        dropout: before the last layer.
        stochastic_depth: probability of dropping a block; it grows linearly from 0 and would reach this value
            after the last block.
        bn_eps, bn_momentum: of batch norm.
        stem: see `cnnbench.models.scaling`.

    Raises:
        OpsError: see `cnnbench.ops.factory`.
    """

    def __init__(
        self,
        *,
        ops: Ops,
        in_channels: int,
        num_classes: int,
        image_size: int,
        width_coefficient: Coefficient,
        depth_coefficient: Coefficient,
        width: Width = 1.0,
        dropout: Probability = 0.2,
        stochastic_depth: Probability = 0.2,
        bn_eps: Positive = 1e-5,
        bn_momentum: Positive = 0.1,
        stem: Stem = "auto",
    ) -> None:
        super().__init__()
        ops.joins("each block adds its shortcut")
        width, bn = width_coefficient * width, (bn_eps, bn_momentum)
        strides = [2, *(stride for _, _, stride, _, _ in STAGES)]
        if is_small(stem, image_size):
            strides, _ = small_strides(strides, image_size, smallest=4)
        c = divisible(32 * width)
        layers: list[nn.Module] = [conv_norm_act(ops, in_channels, c, 3, strides[0], bn=bn)]
        repeats = [math.ceil(blocks * depth_coefficient) for *_, blocks in STAGES]
        count = 0
        for (expansion, kernel, _, channels, _), n, stride in zip(STAGES, repeats, strides[1:], strict=True):
            stage = nn.Sequential()
            c_out = divisible(channels * width)
            for i in range(n):
                drop = stochastic_depth * count / sum(repeats)
                stage.append(MBConv(ops, c, c_out, kernel, stride if i == 0 else 1, expansion, drop, bn))
                c, count = c_out, count + 1
            layers.append(stage)
        layers.append(conv_norm_act(ops, c, 4 * c, 1, bn=bn))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), ops.linear(4 * c, num_classes, logits=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, num_classes)."""
        x = self.features(x)  # B0: (N, 1280, 7, 7) for 224 pixels
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]
