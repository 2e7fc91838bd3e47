"""Data sets of image files, and those of arrays that were stored as image files."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
from torch import Tensor
from torchvision import datasets as tv

from cnnbench.data.decoded import Decoder, decode_parts
from cnnbench.data.download import Imagenette, fetch
from cnnbench.data.folder_scan import scan
from cnnbench.data.image_file import Memory
from cnnbench.data.images import Images, Splits, from_files
from cnnbench.data.png_sets import png_files
from cnnbench.data.transforms import decode
from cnnbench.errors import InputError, Unreadable

PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of every PNG file (ISO/IEC 15948)."""


def imagenette(root: Path) -> Splits:
    """Return train, and as test the val of Imagenette."""
    splits = {}
    for split, theirs in (("train", "train"), ("test", "val")):
        images = fetch(Imagenette, root, split=theirs, size="160px")
        paths, labels = zip(*images._samples, strict=True)
        splits[split] = from_files([Path(p) for p in paths], labels, [names[0] for names in images.classes])
    return splits


def flowers102(root: Path) -> Splits:
    """Return train, with the official val, and test of Oxford 102 Flowers."""
    read = {split: fetch(tv.Flowers102, root, split=split) for split in ("train", "val", "test")}
    paths = {split: [Path(p) for p in images._image_files] for split, images in read.items()}
    classes = read["train"].classes
    train = from_files(paths["train"] + paths["val"], read["train"]._labels + read["val"]._labels, classes)
    return {"train": train, "test": from_files(paths["test"], read["test"]._labels, classes)}


def pets(root: Path) -> Splits:
    """Return trainval as train, and test, of Oxford-IIIT Pets."""
    splits = {}
    for split, theirs in (("train", "trainval"), ("test", "test")):
        images = fetch(tv.OxfordIIITPet, root, split=theirs)
        splits[split] = from_files([Path(p) for p in images._images], images._labels, images.classes)
    return splits


def imagefolder(root: Path) -> Splits:
    """Return the splits of an image folder; see `scan`."""
    return {
        split: from_files(files.paths, files.labels, files.classes, files.left_out)
        for split, files in scan(root).items()
    }


def pngs(name: str, folder: Path, size: int, channels: int, memory: Memory) -> Splits:
    """Read a built-in data set from PNG files.

    Args:
        name: of the data set.
        folder: with its parts.
        size: side of the images in pixels.
        channels: 1 (grey) or 3 (RGB).
        memory: of the images that are decoded at the same time.

    Raises:
        InputError: see `png_files`; an image that cannot be read, is no PNG, or has another size.
    """

    def pixels(path: Path) -> Tensor:
        image = decode(path, size, None, memory, mode)
        if image.shape[1:] != (size, size):
            height, width = image.shape[1:]
            raise Unreadable(path, f"{width} x {height} pixels; allowed: {size} x {size}")
        with path.open("rb") as file:
            if file.read(len(PNG)) != PNG:
                raise Unreadable(
                    path, "no PNG, whatever its name; allowed: PNG, which keeps pixels as they are"
                )
        return image

    mode = "RGB" if channels == 3 else "L"
    decoder = Decoder(pixels, (channels, size, size), f"PNG as they are, {mode}")
    parts = png_files(name, folder)
    paths = [files.paths for files in parts.values()]
    try:
        decoded = decode_parts(folder, list(chain(*paths)), paths, decoder)
    except Unreadable as error:
        raise InputError(f"data={name}: {error}") from error
    return {
        part: Images(arrays, np.asarray(files.labels, dtype=np.int64), files.classes, files.left_out)
        for (part, files), arrays in zip(parts.items(), decoded, strict=True)
    }
