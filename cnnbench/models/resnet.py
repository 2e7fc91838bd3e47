"""Deep Residual Learning for Image Recognition (He et al. 2015, arXiv:1512.03385)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the identity around them (figure 2).

    Where the shape changes, the shortcut takes every second pixel and pads the new channels with
    zeros (option A): no parameters, as in the paper's CIFAR-10 networks.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.stride, self.new_channels = stride, c_out - c_in

    def forward(self, x: Tensor) -> Tensor:
        """(N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride))."""
        shortcut = x
        if self.stride > 1:
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class CifarResNet(nn.Module):
    """Section 4.2: one convolution, three stages at full, half and quarter size, global pooling."""

    def __init__(
        self, in_channels: int, num_classes: int, blocks: int, channels: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        c1, c2, c3 = channels
        self.layer1 = _stage(c1, c1, blocks, stride=1)
        self.layer2 = _stage(c1, c2, blocks, stride=2)
        self.layer3 = _stage(c2, c3, blocks, stride=2)
        self.fc = nn.Linear(c3, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, num_classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))  # (N, 4 x channels[0], H / 4, W / 4)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def _stage(c_in: int, c_out: int, blocks: int, stride: int) -> nn.Sequential:
    """(N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride))."""
    return nn.Sequential(
        BasicBlock(c_in, c_out, stride), *(BasicBlock(c_out, c_out, 1) for _ in range(blocks - 1))
    )


def cifar_resnet(
    *, in_channels: int, num_classes: int, image_size: int, depth: int, width: float
) -> nn.Module:
    """ResNet of `depth` = 6n + 2 layers for images of 8 to 64 pixels.

    Raises:
        ValueError: another depth, or images too small to be halved twice.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth={depth}: allowed: 6n + 2, that is 8, 14, 20, 26, 32, …")
    if image_size < 4:
        raise ValueError(f"images of {image_size} pixels are too small: 4 or more are needed")
    c1, c2, c3 = (round(c * width) for c in (16, 32, 64))
    if c1 < 1:
        raise ValueError(f"width={width}: leaves no channels; allowed: 1/16 or more")
    return CifarResNet(in_channels, num_classes, (depth - 2) // 6, (c1, c2, c3))
