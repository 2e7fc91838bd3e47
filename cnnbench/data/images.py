"""Images with their labels, in memory or as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """Labelled images: pixels in memory, or files that are decoded when they are needed.

    `pixels` is uint8 (N, C, H, W) or a list of N paths; `labels` int64 (N,), indices into `classes`.
    """

    pixels: Tensor | list[Path]
    labels: Indices
    classes: list[str]

    def __getitem__(self, chosen: Indices) -> Images:
        some = (
            self.pixels[torch.from_numpy(chosen)]
            if isinstance(self.pixels, Tensor)
            else [self.pixels[i] for i in chosen]
        )
        return Images(some, self.labels[chosen], self.classes)


Splits = Mapping[str, Images]
"""`train` and `test`, perhaps `val`; or `all`."""
