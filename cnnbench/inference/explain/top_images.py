"""The images that excite each filter of a layer most, and where on them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cnnbench.models.receptive_field import Field, Line

Box = tuple[int, int, int, int]
"""First row, first column, rows and columns of a part of an image, in pixels; it may exceed the image."""


@dataclass
class Top:
    """The largest outputs of each filter of a layer over images that come in batches.

    Attributes:
        most: images per filter.
        values: (C, k), the largest output in an image, descending; k = min(most, images).
        images: int64 (C, k), indices in the order of the images.
        positions: int64 (C, k), of the unit: row * columns + column in the map.
        columns: of the map.
        seen: images so far.
    """

    most: int
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    images: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    positions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    columns: int = 0
    seen: int = 0

    def add(self, maps: Tensor) -> None:
        """Take the maps (N, C, H, W) of the next batch; of equal values the first counts."""
        n, c, _, self.columns = maps.shape
        values, positions = maps.flatten(2).cpu().max(2)
        images = torch.arange(self.seen, self.seen + n)[:, None].expand(n, c)
        found = [values.T, images.T, positions.T]
        if self.seen:
            earlier = (self.values, self.images, self.positions)
            found = [torch.cat(pair, 1) for pair in zip(earlier, found, strict=True)]
        order = found[0].sort(dim=1, descending=True, stable=True).indices[:, : self.most]
        self.values, self.images, self.positions = (part.gather(1, order) for part in found)
        self.seen += n


def patch(receptive_field: Field | None, position: int, columns: int, size: int) -> Box:
    """Return the part of an image that a unit of a map sees.

    Args:
        receptive_field: of the map's units; None: it is not known, and the whole image is returned.
        position: of the unit, row * columns + column.
        columns: of the map.
        size: side of the image in pixels.
    """
    if receptive_field is None:
        return 0, 0, size, size
    top, height = _extent(receptive_field.rows, position // columns, size)
    left, width = _extent(receptive_field.columns, position % columns, size)
    return top, left, height, width


def _extent(line: Line, index: int, size: int) -> tuple[int, int]:
    if not math.isfinite(line.size) or line.jump is None or line.centre is None:
        return 0, size
    first = line.centre + line.jump * index - (line.size - 1) / 2
    return math.floor(first), math.ceil(first + line.size - math.floor(first))
