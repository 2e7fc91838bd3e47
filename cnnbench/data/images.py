"""Images with their labels, in memory or as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """Labelled images, in memory or in files that are decoded as they are needed.

    Attributes:
        pixels: uint8 (N, C, H, W), or a list of N paths.
        labels: int64 (N,), indices into `classes`.
        classes: names of the K classes.
        left_out: what else is in their folder, with the number of files.
    """

    pixels: Tensor | list[Path]
    labels: Indices
    classes: list[str]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, indices: Indices) -> Images:
        pixels = (
            self.pixels[torch.from_numpy(indices)]
            if isinstance(self.pixels, Tensor)
            else [self.pixels[i] for i in indices]
        )
        return Images(pixels, self.labels[indices], self.classes)


def from_arrays(data: Any, labels: Any, classes: list[str]) -> Images:
    """Return images in memory from (N, H, W) or (N, C, H, W) arrays of any library."""
    pixels = torch.as_tensor(data)
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels
    return Images(pixels.contiguous(), np.asarray(labels, dtype=np.int64), list(classes))


def from_files(
    paths: list[Path], labels: Any, classes: list[str], left_out: Mapping[str, int] | None = None
) -> Images:
    """Return images in files."""
    return Images(paths, np.asarray(labels, dtype=np.int64), list(classes), left_out or {})


Splits = Mapping[str, Images]
"""Splits that a data set has: `train`, `test` and possibly `val`; or `all`, where it has no test set."""


def joined(parts: Sequence[Images]) -> Images:
    """Return the images of several parts as one; all are in memory, or all in files."""
    labels, classes = np.concatenate([part.labels for part in parts]), parts[0].classes
    tensors = [part.pixels for part in parts if isinstance(part.pixels, Tensor)]
    pixels = torch.cat(tensors) if tensors else files({str(i): part for i, part in enumerate(parts)})
    return Images(pixels, labels, classes)


def files(splits: Splits) -> list[Path]:
    """Return the image files of all splits; none of images in memory."""
    return [path for images in splits.values() if isinstance(images.pixels, list) for path in images.pixels]
