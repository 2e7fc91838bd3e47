"""Decoding of image files, and transforms of single images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from cnnbench.data.image_file import PIXEL, Memory, give_back, open_rgb
from cnnbench.data.options import Augmentation

if TYPE_CHECKING:
    from PIL.Image import Image

Transform = Callable[[Tensor], Tensor]
"""Transform of one uint8 (C, H, W) image; random ones draw from torch's global generator."""

LONGEST = 32
"""Greatest ratio of an image's sides; longer ones are cut to it."""


def train_transforms(size: int, augmentation: Augmentation) -> list[v2.Transform]:
    """Return the random transforms of single images: a resized crop, a policy of torchvision, and jitter.

    Args:
        size: side in pixels after the crop.
        augmentation: which of them, and how strong.
    """
    resized_crop, policy, jitter = augmentation.resized_crop, augmentation.policy, augmentation.jitter
    transforms: list[v2.Transform] = []
    if resized_crop is not None:
        transforms.append(v2.RandomResizedCrop(size, scale=resized_crop, antialias=True))
    if policy != "none":
        transforms.append({"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide}[policy]())
    if jitter:
        transforms.append(v2.ColorJitter(jitter, jitter, jitter))
    return transforms


def eval_transform(size: int, share: float) -> v2.Transform:
    """Return the transform for evaluation: the centre, as large as `share` of the shorter side, resized."""
    return v2.Compose([_middle, v2.Resize(round(size / share), antialias=True), v2.CenterCrop(size)])


def _middle(image: Tensor) -> Tensor:
    """Cut an image that is a mere strip to its middle: (…, H, W) -> (…, H', W').

    Resized by its shorter side, an image of 1 x 20,000 pixels would take gigabytes.
    """
    sides = image.shape[-2:]
    most = LONGEST * min(sides)
    if max(sides) <= most:
        return image
    cut: Tensor = tvf.center_crop(image, [min(side, most) for side in sides])
    return cut


def decode(
    path: Path, size: int, transform: Transform | None = None, memory: Memory | None = None, mode: str = "RGB"
) -> Tensor:
    """Decode an image file to uint8 (C, H, W).

    Args:
        path: the file.
        size: side of the images in pixels; see `open_rgb`.
        transform: of the pixels, which `memory` includes.
        memory: of all images that are decoded at the same time; None: of this one.
        mode: `RGB`, or `L` for luma (ITU-R 601).

    Raises:
        Unreadable: see `open_rgb`.
    """
    with open_rgb(path, size, memory or Memory()) as image:
        return _pixels(image, transform, mode)


def _pixels(image: Image, transform: Transform | None, mode: str) -> Tensor:
    """Return the pixels of an image, transformed; its own memory is freed before."""
    pixels: Tensor = tvf.pil_to_tensor(image if mode == "RGB" else image.convert(mode))
    image.close()
    give_back(PIXEL * image.width * image.height)
    return transform(pixels) if transform is not None else pixels
