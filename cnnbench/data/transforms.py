"""From an image file to pixels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from cnnbench.data.image_folder import in_threads, open_rgb

EVAL_CROP = 0.875
"""Share of the shorter side that is kept around the centre when image files are evaluated."""


LONGEST = 32
"""Times that an image may be longer than wide before its ends are cut off."""


def train_transforms(size: int, resized_crop: tuple[float, float] | None, policy: str) -> list[v2.Transform]:
    """What is drawn for each image on its own: a part of it that is resized, then torchvision's policy."""
    transforms: list[v2.Transform] = []
    if resized_crop is not None:
        transforms.append(v2.RandomResizedCrop(size, scale=resized_crop, antialias=True))
    if policy != "none":
        transforms.append({"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide}[policy]())
    return transforms


def eval_transform(size: int, share: float = EVAL_CROP) -> v2.Transform:
    """The centre of the image, as large as `share` of its shorter side."""
    return v2.Compose([_middle, v2.Resize(round(size / share), antialias=True), v2.CenterCrop(size)])


def _middle(image: Tensor) -> Tensor:
    """Of an image that is a mere strip the part around its centre: (…, H, W) -> (…, H', W').

    Resized as a whole by its shorter side, one of 1 x 20,000 pixels would take gigabytes.
    """
    sides = image.shape[-2:]
    most = LONGEST * min(sides)
    if max(sides) <= most:
        return image
    cut: Tensor = tvf.center_crop(image, [min(side, most) for side in sides])
    return cut


def decode(path: Path, size: int) -> Tensor:
    """An image file as uint8 (3, H, W); see `open_rgb`."""
    pixels: Tensor = tvf.pil_to_tensor(open_rgb(path, size))
    return pixels


def decode_all(paths: list[Path], size: int) -> Tensor:
    """The centres of all files as one uint8 tensor (N, 3, size, size), with a progress bar."""
    from cnnbench.console import progress

    cut = eval_transform(size)
    pixels = torch.empty((len(paths), 3, size, size), dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the files are done in parallel already: more threads are slower by far
    try:
        decoded = in_threads(lambda path: cut(decode(path, size)), paths)
        for i, image in enumerate(progress(decoded, "decoding images", len(paths))):
            pixels[i] = image
    finally:
        torch.set_num_threads(threads)
    return pixels
