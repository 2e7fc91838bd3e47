"""MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al. 2018, arXiv:1801.04381)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.models.scaling import Probability, Stem, Width, divisible, is_small, small_strides
from cnnbench.ops.factory import Ops

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2: expansion, channels, blocks, stride of the first block."""


class InvertedResidual(nn.Module):
    """Expansion by a 1x1 convolution, a depthwise 3x3 one, and a linear projection (figure 3)."""

    def __init__(self, ops: Ops, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        layers = [] if expansion == 1 else [conv_norm_act(ops, c_in, hidden, 1)]
        layers.append(conv_norm_act(ops, hidden, hidden, 3, stride, groups=hidden))
        project, norm = ops.conv(hidden, c_out, 1), ops.norm(c_out)
        self.conv = nn.Sequential(*layers, project, norm)
        self.residual = stride == 1 and c_in == c_out
        if self.residual:
            self.end = ops.branch([*(layer[0] for layer in layers), project], norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H / stride, W / stride), rounded up."""
        y = self.conv(x)
        return x + self.end(y) if self.residual else y  # type: ignore[no-any-return]


def conv_norm_act(
    ops: Ops,
    c_in: int,
    c_out: int,
    kernel: int,
    stride: int = 1,
    *,
    groups: int = 1,
    bn: tuple[float, float] = (1e-5, 0.1),
) -> nn.Sequential:
    """Return convolution, norm and activation.

    Shapes: (N, c_in, H, W) -> (N, c_out, H / stride, W / stride), rounded up.

    Args:
        ops: makes the layers.
        c_in, c_out: channels.
        kernel, stride: in pixels.
        groups: groups of channels.
        bn: eps and momentum of batch norm.
    """
    return nn.Sequential(
        ops.conv(c_in, c_out, kernel, stride, groups=groups),
        ops.norm(c_out, eps=bn[0], momentum=bn[1]),
        ops.act(c_out),
    )


class MobileNetV2(nn.Module):
    """Seventeen inverted residuals between a 3x3 and a 1x1 convolution, and global average pooling.

    Images up to 64 pixels are halved less often. Channels are multiples of 8.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        width: multiplies every channel count; below 1, the last layer stays at 1280.
        dropout: before the last layer.
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
        width: Width = 1.0,
        dropout: Probability = 0.2,
        stem: Stem = "auto",
    ) -> None:
        super().__init__()
        ops.joins("each block adds its shortcut")
        strides = [2, *(stride for *_, stride in STAGES)]
        if is_small(stem, image_size):
            strides, _ = small_strides(strides, image_size, smallest=4)
        c = divisible(32 * width)
        layers: list[nn.Module] = [conv_norm_act(ops, in_channels, c, 3, strides[0])]
        for (expansion, channels, blocks, _), stride in zip(STAGES, strides[1:], strict=True):
            c_out = divisible(channels * width)
            for i in range(blocks):
                layers.append(InvertedResidual(ops, c, c_out, stride if i == 0 else 1, expansion))
                c = c_out
        last = divisible(1280 * max(1.0, width))  # a narrow net keeps its last layer (end of section 4)
        layers.append(conv_norm_act(ops, c, last, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), ops.linear(last, num_classes, logits=True))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, num_classes)."""
        x = self.features(x)  # (N, 1280, 7, 7) for 224 pixels
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]
