"""Residual branches: their end, and how their layers start (`ops.init`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Residual branch that is left out in training, for each image on its own (arXiv:1603.09382).

    It draws as torchvision's does, whose import takes a second.

    Args:
        p: probability that an image goes without the branch, which is divided by 1 - p for the others.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        if not self.training or self.p == 0:
            return x
        kept = x.new_empty([len(x), *[1] * (x.ndim - 1)]).bernoulli_(1 - self.p)
        return x * (kept.div_(1 - self.p) if self.p < 1 else kept)

    def extra_repr(self) -> str:
        """Return the text between the parentheses of `print(model)`."""
        return f"p={self.p}"


def is_stochastic_depth(module: nn.Module) -> bool:
    """Return whether a module is stochastic depth: ours, torchvision's of that name, or timm's."""
    return type(module).__name__ in ("StochasticDepth", "DropPath")


class Multiplier(nn.Module):
    """Learned factor of a residual branch, and a learned bias behind it (arXiv:2002.10444, 1901.09321).

    Both are tensors without dimensions, which leave the branch in its own precision.

    Args:
        start: of the factor.
        biased: add a bias, which starts at 0.
    """

    def __init__(self, start: float, *, biased: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))
        self.bias = nn.Parameter(torch.tensor(0.0)) if biased else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        x = x * self.scale
        return x if self.bias is None else x + self.bias


def zero(norm: nn.Module, conv: nn.Module) -> None:
    """Initialise a residual branch that ends in `conv`, `norm` to output zero (arXiv:1706.02677).

    Without a norm the convolution's weights are set to zero instead (arXiv:1901.09321).
    """
    last = norm if isinstance(getattr(norm, "weight", None), Tensor) else conv
    nn.init.zeros_(last.weight)  # type: ignore[arg-type]


def scale_by_depth(branches: Sequence[Sequence[nn.Module]]) -> None:
    """Scale the weights of residual branches for their number (Fixup, arXiv:1901.09321, section 3.2).

    In a branch of m layers all but the last are multiplied by L^(-1 / (2m - 2)), so that a step of gradient
    descent changes the network's function as much as if it were shallow.

    Args:
        branches: the convolutions of each of the L branches, in series.
    """
    with torch.no_grad():
        for convs in branches:
            for conv in convs[:-1]:
                conv.weight.mul_(len(branches) ** (-1 / (2 * len(convs) - 2)))  # type: ignore[operator]


def open_loaded(model: nn.Module, loaded: Collection[str]) -> None:
    """Set the factors of branches whose weights were loaded to 1, where the factors themselves were not.

    The weights are then those of a network without factors, whose function is kept.

    Args:
        model: the model, which is changed.
        loaded: names of the tensors that were loaded.
    """
    for name, module in model.named_modules():
        if isinstance(module, Multiplier) and f"{name}.scale" not in loaded:
            block = name.removesuffix(name.rpartition(".")[2])
            if any(other.startswith(block) for other in loaded):
                nn.init.ones_(module.scale)
