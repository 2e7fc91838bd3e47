"""Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan & Zisserman 2014,
arXiv:1409.1556).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from cnnbench.models.scaling import Probability, Stem, Width, is_small, last_side, scaled, small_strides
from cnnbench.ops.factory import Ops

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each of the five stages, by depth (table 1, columns A, B, D, E)."""

CHANNELS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each followed by pooling, and three fully connected layers.

    The layers have torchvision's names. Images up to 64 pixels are pooled as often as they can be halved.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        depth: 11, 13, 16 or 19 layers.
        number_norms: number the norms like all other layers, as torchvision's models with batch norm do;
            otherwise they have names of their own between the numbers.
        width: multiplies every channel count.
        dropout: after both hidden fully connected layers.
        head: `flatten`: three fully connected layers; `gap`: global average pooling and one.
        stem: see `cnnbench.models.scaling`.

    Raises:
        ValueError: another depth than 11, 13, 16 or 19, or `width` leaves no channels.
        OpsError: see `cnnbench.ops.factory`.
    """

    def __init__(
        self,
        *,
        ops: Ops,
        in_channels: int,
        num_classes: int,
        image_size: int,
        depth: int,
        number_norms: bool = False,
        width: Width = 1.0,
        dropout: Probability = 0.5,
        head: Literal["flatten", "gap"] = "flatten",
        stem: Stem = "auto",
    ) -> None:
        if depth not in CONVOLUTIONS:
            raise ValueError(f"depth={depth}: allowed: {', '.join(map(str, CONVOLUTIONS))}")
        super().__init__()
        small = is_small(stem, image_size)
        strides, side = [2] * 5, 7
        if small:
            strides, side = small_strides(strides, image_size, 1, shrink=lambda n: n // 2)
        self.features = nn.Sequential()
        number, c_in = 0, in_channels

        def add(layer: nn.Module, name: str | None = None) -> None:
            nonlocal number
            self.features.add_module(name or str(number), layer)
            number += name is None

        for convolutions, channels, stride in zip(CONVOLUTIONS[depth], CHANNELS, strides, strict=True):
            c_out = scaled(channels, width)
            for _ in range(convolutions):
                add(ops.conv(c_in, c_out, 3, bias=True))
                add(ops.norm(c_out), None if number_norms else f"norm{number - 1}")
                add(ops.act(c_out))
                c_in = c_out
            add(ops.pool(2, 2) if stride == 2 else nn.Identity())
        hidden = scaled(4096, width)
        if head == "gap":
            side = 1
        elif small:
            side = last_side(self.features, in_channels, image_size, most=side)
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        if head == "gap":
            self.classifier = nn.Sequential(nn.Dropout(dropout), ops.linear(c_in, num_classes, logits=True))
        else:
            self.classifier = nn.Sequential(
                ops.linear(c_in * side * side, hidden),
                ops.act(hidden),
                nn.Dropout(dropout),
                ops.linear(hidden, hidden),
                ops.act(hidden),
                nn.Dropout(dropout),
                ops.linear(hidden, num_classes, logits=True),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, num_classes)."""
        x = self.features(x)  # (N, 512, 7, 7) for 224 pixels, (N, 512, 1, 1) for 32
        return self.classifier(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]
