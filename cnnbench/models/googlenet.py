"""Going Deeper with Convolutions (Szegedy et al. 2014, arXiv:1409.4842): GoogLeNet, Inception v1.

As in torchvision, with batch norm (arXiv:1502.03167), which is younger than the paper.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.models.inception_blocks import BasicConv, from_imagenet_normalisation, transforms_input
from cnnbench.models.scaling import Probability, Stem, Width, is_small, scaled, small_strides
from cnnbench.ops.factory import Ops

BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Table 1: channels of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool projection."""

AUXILIARY = {"4a": "aux1", "4d": "aux2"}
"""The blocks whose maps the auxiliary classifiers take (section 5)."""


class Inception(nn.Module):
    """Four branches side by side, concatenated (figure 2b)."""

    def __init__(self, ops: Ops, c_in: int, channels: tuple[int, ...], large_kernel: int) -> None:
        super().__init__()
        c1, r3, c3, r5, c5, pooled = channels
        self.branch1 = BasicConv(ops, c_in, c1, 1)
        self.branch2 = nn.Sequential(BasicConv(ops, c_in, r3, 1), BasicConv(ops, r3, c3, 3))
        self.branch3 = nn.Sequential(BasicConv(ops, c_in, r5, 1), BasicConv(ops, r5, c5, large_kernel))
        self.branch4 = nn.Sequential(
            ops.pool(3, 1, padding=1, ceil_mode=True), BasicConv(ops, c_in, pooled, 1)
        )
        self.channels = c1 + c3 + c5 + pooled

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, channels, H, W)."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class Auxiliary(nn.Module):
    """Auxiliary classifier, whose loss gives the early layers a gradient; used in training only."""

    def __init__(self, ops: Ops, c_in: int, num_classes: int, width: float, dropout: float) -> None:
        super().__init__()
        reduced, hidden = scaled(128, width), scaled(1024, width)
        self.conv = BasicConv(ops, c_in, reduced, 1)
        self.fc1 = ops.linear(reduced * 4 * 4, hidden)
        self.act = ops.act(hidden)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = ops.linear(hidden, num_classes, logits=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, num_classes)."""
        x = self.conv(F.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(self.dropout(self.act(self.fc1(x))))  # type: ignore[no-any-return]


class GoogLeNet(nn.Module):
    """Nine Inception blocks between pooling layers, and global average pooling.

    Args:
        ops, in_channels, num_classes, image_size: see `cnnbench.models`.
        width: multiplies every channel count.
        dropout: before the last layer.
        aux: add the two auxiliary classifiers.
        aux_dropout: in the auxiliary classifiers.
        large_kernel: kernel of the third branch: 5 in the paper, 3 in torchvision.
        transform_input: convert ImageNet's normalisation to that of the weights from TensorFlow; None: if
            `weights` is "imagenet".
        weights: the weights that will be loaded.
        stem: see `cnnbench.models.scaling`; the small one has a 3x3 first convolution and fewer pooling
            layers.

    Attributes:
        aux_weight: weight of the auxiliary classifiers' losses in training.

    Raises:
        ValueError: `width` leaves no channels, or `transform_input` on grey images.
        OpsError: see `cnnbench.ops.factory`.
    """

    aux_weight = 0.3

    def __init__(
        self,
        *,
        ops: Ops,
        in_channels: int,
        num_classes: int,
        image_size: int,
        width: Width = 1.0,
        dropout: Probability = 0.2,
        aux: bool = False,
        aux_dropout: Probability = 0.7,
        large_kernel: Literal[3, 5] = 3,
        transform_input: bool | None = None,
        weights: str | None = None,
        stem: Stem = "auto",
    ) -> None:
        super().__init__()
        ops.joins("each block concatenates its branches")
        self.aux, self.transform_input = aux, transforms_input(transform_input, weights, in_channels)
        small = is_small(stem, image_size)
        strides = small_strides([2] * 5, image_size, smallest=4)[0] if small else [2] * 5
        c1, c2 = scaled(64, width), scaled(192, width)

        def pool(kernel: int, stride: int) -> nn.Module:
            return ops.pool(kernel, 2, ceil_mode=True) if stride == 2 else nn.Identity()

        self.conv1 = BasicConv(ops, in_channels, c1, 3 if small else 7, strides[0])
        self.maxpool1 = pool(3, strides[1])
        self.conv2 = BasicConv(ops, c1, c1, 1)
        self.conv3 = BasicConv(ops, c1, c2, 3)
        self.maxpool2 = pool(3, strides[2])
        c = c2
        for name, channels in BLOCKS.items():
            block = Inception(ops, c, tuple(scaled(n, width) for n in channels), large_kernel)
            self.add_module(f"inception{name}", block)
            c = block.channels
            if aux and name in AUXILIARY:
                self.add_module(AUXILIARY[name], Auxiliary(ops, c, num_classes, width, aux_dropout))
        self.maxpool3 = pool(3, strides[3])
        self.maxpool4 = pool(2, strides[4])
        self.dropout = nn.Dropout(dropout)
        self.fc = ops.linear(c, num_classes, logits=True)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map (N, C, H, W) to (N, num_classes); in training with `aux`, those of aux1 and aux2 follow."""
        if self.transform_input:
            x = from_imagenet_normalisation(x)
        x = self.maxpool1(self.conv1(x))  # (N, 64, 56, 56) for 224 pixels
        x = self.maxpool2(self.conv3(self.conv2(x)))  # (N, 192, 28, 28)
        auxiliary = []
        for name in BLOCKS:
            if name == "4a":
                x = self.maxpool3(x)  # (N, 480, 14, 14)
            elif name == "5a":
                x = self.maxpool4(x)  # (N, 832, 7, 7)
            x = self.get_submodule(f"inception{name}")(x)
            if self.training and self.aux and name in AUXILIARY:
                auxiliary.append(self.get_submodule(AUXILIARY[name])(x))
        logits = self.fc(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))
        return (logits, *auxiliary) if auxiliary else logits
