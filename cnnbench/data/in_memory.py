"""Images of a run in memory: files decoded, and all of one size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from cnnbench.data.decoded import Decoder, decode_parts
from cnnbench.data.image_file import Memory
from cnnbench.data.images import Images, files
from cnnbench.data.preprocessing import Preparation
from cnnbench.errors import InputError, Unreadable


def decoded(
    root: Path, paths: list[Path], parts: Sequence[Images], prepared: Preparation, memory: Memory
) -> list[Images]:
    """Decode the files of a data set's parts as evaluation does; see `decode_parts`.

    Args:
        root: folder of the data set.
        paths: all its files.
        parts: files.
        prepared: their preprocessing.
        memory: of the images that are decoded at the same time.

    Raises:
        InputError: a file that cannot be read, or has changed meanwhile.
    """
    shape = (prepared.colours, prepared.size, prepared.size)
    decoder = Decoder(lambda path: prepared.open(path, memory), shape, prepared.resizing)
    try:
        pixels = decode_parts(root, paths, [files({"": images}) for images in parts], decoder)
    except Unreadable as error:  # since it was checked
        raise InputError(str(error)) from error
    pairs = zip(pixels, parts, strict=True)
    return [Images(arrays, images.labels, images.classes) for arrays, images in pairs]


def resized(images: Images, size: int) -> Images:
    """Resize images in memory to squares of `size` pixels a side; files are left to be decoded later."""
    pixels = images.pixels
    if not isinstance(pixels, Tensor) or pixels.shape[-1] == size:
        return images
    # In slices: resizing makes them float32, which takes four times the memory.
    sized = [tvf.resize(chunk, [size, size], antialias=True) for chunk in torch.split(pixels, 1024)]
    return Images(torch.cat(sized), images.labels, images.classes)
