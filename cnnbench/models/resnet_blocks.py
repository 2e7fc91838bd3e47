"""Deep Residual Learning for Image Recognition (He et al. 2015, arXiv:1512.03385): blocks, shortcuts, stages.

The networks of table 1 are in `resnet`, those for CIFAR-10 in `resnet_cifar`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from cnnbench.ops.factory import Ops
from cnnbench.ops.residual import StochasticDepth


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and the shortcut around them (figure 5, left)."""

    expansion = 1

    def __init__(
        self,
        ops: Ops,
        c_in: int,
        c: int,
        stride: int,
        shortcut: nn.Module | None,
        drop: float,
        *,
        zero_init: bool,
    ) -> None:
        super().__init__()
        self.conv1 = ops.conv(c_in, c, 3, stride)
        self.bn1, self.act1 = ops.norm(c), ops.act(c)
        self.conv2 = ops.conv(c, c, 3)
        self.bn2, self.act2 = ops.norm(c), ops.act(c)
        self.downsample = shortcut
        if shortcut is not None:
            self.end = ops.branch([self.conv1, self.conv2], self.bn2, zero=zero_init)
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c, H / stride, W / stride), rounded up."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.downsample is None:
            return self.act2(y)  # type: ignore[no-any-return]
        return self.act2(self.drop(self.end(y)) + self.downsample(x))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, and the shortcut around them (figure 5, right).

    The stride is in the 3x3 convolution, as in torchvision; in the paper it is in the first.
    """

    expansion = 4

    def __init__(
        self,
        ops: Ops,
        c_in: int,
        c: int,
        stride: int,
        shortcut: nn.Module | None,
        drop: float,
        *,
        zero_init: bool,
    ) -> None:
        super().__init__()
        self.conv1 = ops.conv(c_in, c, 1)
        self.bn1, self.act1 = ops.norm(c), ops.act(c)
        self.conv2 = ops.conv(c, c, 3, stride)
        self.bn2, self.act2 = ops.norm(c), ops.act(c)
        self.conv3 = ops.conv(c, 4 * c, 1)
        self.bn3, self.act3 = ops.norm(4 * c), ops.act(4 * c)
        self.downsample = shortcut
        if shortcut is not None:
            self.end = ops.branch([self.conv1, self.conv2, self.conv3], self.bn3, zero=zero_init)
        self.drop = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, 4c, H / stride, W / stride), rounded up."""
        y = self.act1(self.bn1(self.conv1(x)))
        y = self.act2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.downsample is None:
            return self.act3(y)  # type: ignore[no-any-return]
        return self.act3(self.drop(self.end(y)) + self.downsample(x))  # type: ignore[no-any-return]


Shortcut = Callable[[Ops, int, int, int], nn.Module]


def projection(ops: Ops, c_in: int, c_out: int, stride: int) -> nn.Module:
    """Return the shortcut of option B: a 1x1 convolution where the shape changes."""
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    return nn.Sequential(ops.conv(c_in, c_out, 1, stride), ops.norm(c_out))


class ResNet(nn.Module):
    """A stem, stages of residual blocks named `layer1`, `layer2`, …, and global average pooling.

    Args:
        ops: makes the layers.
        stem: (N, C, H, W) -> (N, channels[0], H', W'), as named layers in order.
        block: class of the blocks.
        shortcut: of the blocks; None: no shortcuts, as in the paper's plain nets.
        channels, blocks, strides: of each stage.
        num_classes: K.
        zero_init: start each block as its shortcut alone, as `ops.init=zero` does in every family.
        stochastic_depth: probability of dropping the last block (arXiv:1603.09382); it grows linearly from 0
            at the first.

    Raises:
        ValueError: `zero_init` together with `ops.init`.
    """

    def __init__(
        self,
        ops: Ops,
        stem: dict[str, nn.Module],
        block: type[BasicBlock | Bottleneck],
        shortcut: Shortcut | None,
        channels: list[int],
        blocks: list[int],
        strides: list[int],
        num_classes: int,
        *,
        zero_init: bool,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        if zero_init and ops.values["init"] != "native":
            raise ValueError(
                f"zero_init=true: not together with ops.init={ops.values['init']}; allowed: false"
            )
        if shortcut is not None:
            ops.joins("each block adds its shortcut")
        self.body: list[str] = [*stem]
        for name, layer in stem.items():
            self.add_module(name, layer)
        c_in, count = channels[0], 0
        for i, (c, n, stride) in enumerate(zip(channels, blocks, strides, strict=True), 1):
            stage = nn.Sequential()
            for j in range(n):
                step = stride if j == 0 else 1
                c_out = c * block.expansion
                drop = stochastic_depth * count / max(1, sum(blocks) - 1)
                around = None if shortcut is None else shortcut(ops, c_in, c_out, step)
                stage.append(block(ops, c_in, c, step, around, drop, zero_init=zero_init))
                c_in, count = c_out, count + 1
            self.add_module(f"layer{i}", stage)
            self.body.append(f"layer{i}")
        self.fc = ops.linear(c_in, num_classes, logits=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, num_classes)."""
        for name in self.body:
            x = self.get_submodule(name)(x)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]
