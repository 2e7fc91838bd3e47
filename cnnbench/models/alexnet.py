"""ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., NIPS 2012).

In its one-column form: One weird trick for parallelizing CNNs (Krizhevsky 2014, arXiv:1404.5997).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from cnnbench.models.scaling import Probability, Stem, Width, is_small, last_side, scaled, small_strides
from cnnbench.ops.factory import Ops


class AlexNet(nn.Module):
    """Five convolutions, three of them pooled, and three fully connected layers.

    The layers have torchvision's names; norms, which it does not have, have names of their own between them.
    Images up to 64 pixels get a 5x5 first convolution and fewer strides.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        width: multiplies every channel count.
        dropout: before both hidden fully connected layers.
        head: `flatten`: three fully connected layers; `gap`: global average pooling and one.
        stem: see `cnnbench.models.scaling`.

    Raises:
        ValueError: `width` leaves no channels.
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
        dropout: Probability = 0.5,
        head: Literal["flatten", "gap"] = "flatten",
        stem: Stem = "auto",
    ) -> None:
        super().__init__()
        small = is_small(stem, image_size)
        c1, c2, c3, c4 = (scaled(c, width) for c in (64, 192, 384, 256))
        hidden = scaled(4096, width)
        # The first stride of 4 is two halvings; overlapping pooling takes n pixels to (n - 3) // 2 + 1.
        strides, side, kernel = [2] * 5, 6, 11
        if small:
            strides, side = small_strides(strides, image_size, 2, shrink=lambda n: (n - 3) // 2 + 1)
            kernel = 5
        pools = [ops.pool(3, 2) if stride == 2 else nn.Identity() for stride in strides[2:]]
        self.features = nn.Sequential(
            OrderedDict(
                [
                    ("0", ops.conv(in_channels, c1, kernel, strides[0] * strides[1], padding=2, bias=True)),
                    ("norm0", ops.norm(c1)),
                    ("1", ops.act(c1)),
                    ("2", pools[0]),
                    ("3", ops.conv(c1, c2, 5, bias=True)),
                    ("norm3", ops.norm(c2)),
                    ("4", ops.act(c2)),
                    ("5", pools[1]),
                    ("6", ops.conv(c2, c3, 3, bias=True)),
                    ("norm6", ops.norm(c3)),
                    ("7", ops.act(c3)),
                    ("8", ops.conv(c3, c4, 3, bias=True)),
                    ("norm8", ops.norm(c4)),
                    ("9", ops.act(c4)),
                    ("10", ops.conv(c4, c4, 3, bias=True)),
                    ("norm10", ops.norm(c4)),
                    ("11", ops.act(c4)),
                    ("12", pools[2]),
                ]
            )
        )
        if head == "gap":
            side = 1
        elif small:
            side = last_side(self.features, in_channels, image_size, most=side)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        if head == "gap":
            self.classifier = nn.Sequential(nn.Dropout(dropout), ops.linear(c4, num_classes, logits=True))
        else:
            self.classifier = nn.Sequential(
                nn.Dropout(dropout),
                ops.linear(c4 * side * side, hidden),
                ops.act(hidden),
                nn.Dropout(dropout),
                ops.linear(hidden, hidden),
                ops.act(hidden),
                ops.linear(hidden, num_classes, logits=True),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, num_classes)."""
        x = self.features(x)  # (N, 256, 6, 6) for 224 pixels
        return self.classifier(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]
