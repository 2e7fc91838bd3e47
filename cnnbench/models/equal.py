"""Networks of equal size: what a network costs, and the scale at which another costs as much."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from cnnbench.models import complexity

Equal = Literal["params", "macs"]
"""What two networks have in equal number: parameters, or multiply-accumulates for an image."""

TOLERANCE = 0.05
"""Largest relative difference that still counts as equal: channels are whole numbers."""

SMALLEST, LARGEST, PRECISION = 1 / 256, 64.0, 5e-4
"""Range of the scales that are tried, and how close two of them come, relative to each other."""


def cost(equal: Equal, build: Callable[[], nn.Module], shape: complexity.Shape, num_classes: int) -> int:
    """Return what a network costs; it is built on the meta device, where nothing is allocated or drawn."""
    with torch.device("meta"):
        model = build()
        return complexity.params(model) if equal == "params" else complexity.macs(model, shape, num_classes)


def bracket(price: Callable[[float], int], target: int) -> tuple[float, float]:
    """Return a scale whose price is not above the target, and one slightly larger whose price is.

    Args:
        price: grows with the scale; 0 where the scale is too small for a network.
        target: the price to be met.
    """
    low, high = SMALLEST, LARGEST  # the ends stand for "too cheap" and "too expensive"
    while high / low > 1 + PRECISION:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if price(middle) <= target else (low, middle)
    return low, high


def check(equal: Equal, found: int, target: int) -> None:
    """Check that a network costs what it should.

    Raises:
        ValueError: no whole number of channels or units comes close.
    """
    if abs(found - target) > TOLERANCE * target:
        raise ValueError(
            f"equal={equal}: the textbook network has {target:,} {equal}, and the nearest one of this kind "
            f"{found:,}; allowed: null, or a larger width"
        )
