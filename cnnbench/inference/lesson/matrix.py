"""A convolution as a matrix: what it would need without its constraints, and a part that can be looked at."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.inference.lesson.calls import Call
from cnnbench.models import linear_map

LEAST, MOST = 6, 12
"""Sides of the map on which the matrix is drawn."""


@dataclass(frozen=True)
class Matrix:
    """A convolution as a matrix.

    Attributes:
        unconstrained, nonzero, free: weights of a linear layer between the same maps, those that are not
            fixed at zero, and those that are learned.
        part: (H'W', HW), the matrix from the first input channel to the first output channel, of a small map.
        side: H = W of that map.
        places: (H', W').
    """

    unconstrained: int
    nonzero: int
    free: int
    part: Tensor
    side: int
    places: tuple[int, int]


def matrix(call: Call) -> Matrix | None:
    """Return a convolution as a matrix; None: it is none, or one whose code is not known."""
    layer = call.module
    if not isinstance(layer, nn.Conv2d) or not linear_map.is_linear(layer):
        return None
    counts = linear_map.counts(layer, tuple(call.taken.shape[1:]))
    side = min(max(2 * max(layer.kernel_size), LEAST), MOST)
    try:
        found = linear_map.linear_map(_first_channels(layer), (1, side, side))
    except (ValueError, RuntimeError):  # a kernel that is larger than the small map
        return None
    _, rows, columns = found.output
    part = found.matrix.detach().to_dense()
    return Matrix(counts.unconstrained, counts.nonzero, counts.free, part, side, (rows, columns))


def _first_channels(layer: nn.Conv2d) -> nn.Conv2d:
    """Return the same convolution from its first input channel to its first output channel."""
    small = copy.deepcopy(layer).float().cpu()
    small.in_channels = small.out_channels = small.groups = 1
    small.weight = nn.Parameter(torch.clone(small.weight[:1, :1]), requires_grad=False)
    small.bias = None
    return small
