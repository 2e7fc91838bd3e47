"""Rethinking the Inception Architecture for Computer Vision (Szegedy et al. 2015, arXiv:1512.00567)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.models.inception_blocks import (
    BasicConv,
    Branches,
    Conv,
    Mixed,
    from_imagenet_normalisation,
    transforms_input,
)
from cnnbench.models.scaling import Probability, Stem, Width, is_small, scaled, small_strides
from cnnbench.ops.factory import Ops

A: Branches = (  # figure 5: 5x5 as two 3x3
    (Conv("branch1x1", 64, 1),),
    (Conv("branch5x5_1", 48, 1), Conv("branch5x5_2", 64, 5)),
    (Conv("branch3x3dbl_1", 64, 1), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3)),
)
B: Branches = (  # figure 10: the first reduction
    (Conv("branch3x3", 384, 3),),
    (Conv("branch3x3dbl_1", 64, 1), Conv("branch3x3dbl_2", 96, 3), Conv("branch3x3dbl_3", 96, 3)),
)
D: Branches = (  # the second reduction
    (Conv("branch3x3_1", 192, 1), Conv("branch3x3_2", 320, 3)),
    (
        Conv("branch7x7x3_1", 192, 1),
        Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)),
        Conv("branch7x7x3_4", 192, 3),
    ),
)
E: Branches = (  # figure 7: the widest block, for the coarsest map
    (Conv("branch1x1", 320, 1),),
    (
        Conv("branch3x3_1", 384, 1),
        (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1))),
    ),
    (
        Conv("branch3x3dbl_1", 448, 1),
        Conv("branch3x3dbl_2", 384, 3),
        (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))),
    ),
)


def _c(c7: int) -> Branches:
    """Return the branches of figure 6: 7x7 as 1x7 and 7x1, of `c7` channels."""
    return (
        (Conv("branch1x1", 192, 1),),
        (Conv("branch7x7_1", c7, 1), Conv("branch7x7_2", c7, (1, 7)), Conv("branch7x7_3", 192, (7, 1))),
        (
            Conv("branch7x7dbl_1", c7, 1),
            Conv("branch7x7dbl_2", c7, (7, 1)),
            Conv("branch7x7dbl_3", c7, (1, 7)),
            Conv("branch7x7dbl_4", c7, (7, 1)),
            Conv("branch7x7dbl_5", 192, (1, 7)),
        ),
    )


class Auxiliary(nn.Module):
    """Auxiliary classifier on the 17x17 maps; used in training only."""

    def __init__(self, ops: Ops, c_in: int, num_classes: int, width: float, small: bool) -> None:
        super().__init__()
        reduced, hidden = scaled(128, width), scaled(768, width)
        self.pool = nn.Identity() if small else ops.pool(5, 3, native="avg")
        self.conv0 = BasicConv(ops, c_in, reduced, 1)
        self.conv1 = BasicConv(ops, reduced, hidden, 5, padding=None if small else 0)
        self.fc = ops.linear(hidden, num_classes, logits=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, num_classes)."""
        x = self.conv1(self.conv0(self.pool(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


class InceptionV3(nn.Module):
    """A plain stem, three kinds of Inception blocks with reductions between, and global pooling (table 1).

    Designed for 299 pixels; below 75, the stem pads its maps and halves them less often. For the arguments
    see `GoogLeNet`.

    Attributes:
        aux_weight: weight of the auxiliary classifier's loss in training.

    Raises:
        ValueError: `width` leaves no channels, or `transform_input` on grey images.
        OpsError: see `cnnbench.ops.factory`.
    """

    aux_weight = 0.4

    def __init__(
        self,
        *,
        ops: Ops,
        in_channels: int,
        num_classes: int,
        image_size: int,
        width: Width = 1.0,
        dropout: Probability = 0.5,
        aux: bool = False,
        transform_input: bool | None = None,
        weights: str | None = None,
        stem: Stem = "auto",
    ) -> None:
        super().__init__()
        ops.joins("each block concatenates its branches")
        self.transform_input = transforms_input(transform_input, weights, in_channels)
        small = is_small(stem, image_size, imagenet_from=75)

        def n(channels: int) -> int:
            return scaled(channels, width)

        strides, edge = [2] * 5, 0
        if small:
            strides, _ = small_strides(strides, image_size, 4, shrink=lambda side: (side - 3) // 2 + 1)
            edge = 1

        def pool(stride: int) -> nn.Module:
            return ops.pool(3, 2) if stride == 2 else nn.Identity()

        self.Conv2d_1a_3x3 = BasicConv(ops, in_channels, n(32), 3, strides[0], padding=edge)
        self.Conv2d_2a_3x3 = BasicConv(ops, n(32), n(32), 3, padding=edge)
        self.Conv2d_2b_3x3 = BasicConv(ops, n(32), n(64), 3)
        self.maxpool1 = pool(strides[1])
        self.Conv2d_3b_1x1 = BasicConv(ops, n(64), n(80), 1)
        self.Conv2d_4a_3x3 = BasicConv(ops, n(80), n(192), 3, padding=edge)
        self.maxpool2 = pool(strides[2])
        c = n(192)
        blocks = {
            "Mixed_5b": (A, 1, 32),
            "Mixed_5c": (A, 1, 64),
            "Mixed_5d": (A, 1, 64),
            "Mixed_6a": (B, strides[3], None),
            "Mixed_6b": (_c(128), 1, 192),
            "Mixed_6c": (_c(160), 1, 192),
            "Mixed_6d": (_c(160), 1, 192),
            "Mixed_6e": (_c(192), 1, 192),
            "Mixed_7a": (D, strides[4], None),
            "Mixed_7b": (E, 1, 192),
            "Mixed_7c": (E, 1, 192),
        }
        self.AuxLogits: nn.Module | None = None
        self.blocks = [*blocks]
        for name, (branches, stride, pooled) in blocks.items():
            block = Mixed(ops, c, width, branches, stride=stride, pooled=pooled)
            self.add_module(name, block)
            c = block.channels
            if aux and name == "Mixed_6e":
                self.AuxLogits = Auxiliary(ops, c, num_classes, width, small)
        self.dropout = nn.Dropout(dropout)
        self.fc = ops.linear(c, num_classes, logits=True)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to (N, num_classes); in training with `aux`, those of AuxLogits follow."""
        if self.transform_input:
            x = from_imagenet_normalisation(x)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (N, 64, 147, 147) for 299 pixels
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.maxpool1(x)))  # (N, 192, 71, 71)
        x, auxiliary = self.maxpool2(x), None
        for name in self.blocks:  # 5: (N, 288, 35, 35), 6: (N, 768, 17, 17), 7: (N, 2048, 8, 8)
            x = self.get_submodule(name)(x)
            if name == "Mixed_6e" and self.AuxLogits is not None and self.training:
                auxiliary = self.AuxLogits(x)
        logits = self.fc(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))
        return logits if auxiliary is None else (logits, auxiliary)
