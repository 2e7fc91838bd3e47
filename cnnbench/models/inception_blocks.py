"""Building blocks of GoogLeNet and Inception v3 (Szegedy et al., arXiv:1409.4842 and 1512.00567)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cnnbench.models.scaling import scaled
from cnnbench.ops.factory import Ops
from cnnbench.ops.layers import Pair


class BasicConv(nn.Module):
    """Convolution, norm, activation."""

    def __init__(
        self,
        ops: Ops,
        c_in: int,
        c_out: int,
        kernel: int | Pair,
        stride: int = 1,
        padding: int | Pair | None = None,
    ) -> None:
        super().__init__()
        self.conv = ops.conv(c_in, c_out, kernel, stride, padding=padding)
        self.bn = ops.norm(c_out, eps=0.001)
        self.act = ops.act(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H', W')."""
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class Conv(NamedTuple):
    """One convolution in a branch of `Mixed`.

    Attributes:
        name: its name in torchvision's state_dict.
        channels: of its output, at width 1.
        kernel: its side, or rows and columns.
    """

    name: str
    channels: int
    kernel: int | Pair


Step = Conv | tuple[Conv, Conv]
"""One convolution, or two side by side whose maps are concatenated."""

Branch = tuple[Step, ...]
"""Convolutions one after another."""

Branches = tuple[Branch, ...]
"""Branches of one block, side by side."""


class Mixed(nn.Module):
    """Branches of convolutions beside each other and beside a pooled map, all concatenated.

    Args:
        ops: makes the layers.
        c_in: channels of the map.
        width: multiplies every channel count.
        branches: the convolutions of each.
        stride: 2 in a reduction, where pooling and the last convolution of each branch halve the map.
        pooled: channels that the pooled map is projected to; None: a reduction, which keeps them.
    """

    def __init__(
        self,
        ops: Ops,
        c_in: int,
        width: float,
        branches: Branches,
        *,
        stride: int = 1,
        pooled: int | None = None,
    ) -> None:
        super().__init__()
        edge = ops.beside(3, padding=0) if stride == 2 else 1
        self.names: list[list[list[str]]] = []
        self.channels = 0
        for branch in branches:
            c = c_in
            self.names.append([])
            for step in branch:
                convs = [step] if isinstance(step, Conv) else [*step]
                for name, channels, kernel in convs:
                    c_out = scaled(channels, width)
                    if pooled is None and step is branch[-1]:
                        layer = BasicConv(ops, c, c_out, kernel, stride, padding=edge)
                    else:
                        layer = BasicConv(ops, c, c_out, kernel)
                    self.add_module(name, layer)
                self.names[-1].append([conv.name for conv in convs])
                c = sum(scaled(conv.channels, width) for conv in convs)
            self.channels += c
        self.pool = ops.pool(3, stride, padding=edge, native="avg" if pooled else "max")
        self.branch_pool = BasicConv(ops, c_in, scaled(pooled, width), 1) if pooled else nn.Identity()
        self.channels += scaled(pooled, width) if pooled else c_in

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, channels, H', W')."""
        maps = []
        for branch in self.names:
            y = x
            for names in branch:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            maps.append(y)
        return torch.cat([*maps, self.branch_pool(self.pool(x))], 1)


def transforms_input(transform_input: bool | None, weights: str | None, in_channels: int) -> bool:
    """Return whether a model converts its input for weights from TensorFlow; None: if they will be loaded.

    Raises:
        ValueError: for grey images.
    """
    if transform_input and in_channels != 3:
        raise ValueError("transform_input=true: is for colour images; allowed: false, or in_channels=3")
    return weights == "imagenet" and in_channels == 3 if transform_input is None else transform_input


def from_imagenet_normalisation(x: Tensor) -> Tensor:
    """Convert (N, 3, H, W) normalised for ImageNet to [-1, 1], which weights from TensorFlow expect."""
    mean = x.new_tensor((0.485, 0.456, 0.406))[:, None, None]
    std = x.new_tensor((0.229, 0.224, 0.225))[:, None, None]
    return (x * std + mean - 0.5) / 0.5
