"""Images that are too small for a model: which size works."""

from __future__ import annotations

from collections.abc import Callable

SIZES = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 384, 448, 512, 768, 1024)
"""Sides that are tried, in pixels: those that models and data sets have."""


def least_size(works: Callable[[int], bool], side: int) -> int | None:
    """Return a side above `side` that works, while one pixel less does not; None: none of SIZES works.

    Args:
        works: whether a model can be trained on images of this side.
        side: of images with which it cannot, in pixels.
    """
    below = side
    for size in SIZES:
        if size <= side:
            continue
        if works(size):
            return _between(works, below, size)
        below = size
    return None


def _between(works: Callable[[int], bool], low: int, high: int) -> int:
    """Halve the range from a side that does not work to one that does, until they are neighbours."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high
