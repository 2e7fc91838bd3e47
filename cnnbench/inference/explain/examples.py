"""The images that are explained: files of the user's, or test images of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cnnbench.data.image_file import Memory
from cnnbench.data.images import Images
from cnnbench.data.prefetch import labelled
from cnnbench.data.preprocessing import Preparation
from cnnbench.errors import InputError, Unreadable


@dataclass(frozen=True)
class Examples:
    """Some images as a model takes them.

    Attributes:
        pixels: uint8 (N, colours, size, size).
        names: of each, for the user.
        labels: its class; None: not known.
    """

    pixels: Tensor
    names: list[str]
    labels: list[int | None]


def of_files(paths: Sequence[Path], prepared: Preparation) -> Examples:
    """Return image files as a model takes them.

    Raises:
        InputError: a file that cannot be read.
    """
    memory = Memory()
    try:
        pixels = [prepared.open(path, memory) for path in paths]
    except Unreadable as error:
        raise InputError(f"--image {error}; allowed: image files") from None
    return Examples(torch.stack(pixels), [path.name for path in paths], [None] * len(paths))


def of_images(images: Images, indices: Sequence[int], prepared: Preparation, memory: Memory) -> Examples:
    """Return images of a data set as a model takes them.

    Raises:
        InputError: a file that cannot be read.
    """
    if not indices:
        empty = torch.empty((0, prepared.colours, prepared.size, prepared.size), dtype=torch.uint8)
        return Examples(empty, [], [])
    some = images[np.array(indices, dtype=np.int64)]
    pixels = torch.cat([batch for batch, _ in labelled(prepared, some, len(indices), memory)])
    return Examples(pixels, [f"image {i}" for i in indices], [int(label) for label in some.labels])


def one_of_each_class(images: Images, most: int) -> list[int]:
    """Return the index of the first image of each class, of up to `most` classes."""
    _, first = np.unique(images.labels, return_index=True)
    return [int(i) for i in first[:most]]
