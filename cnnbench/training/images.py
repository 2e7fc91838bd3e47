"""The images of a run, from its settings."""

from __future__ import annotations

from pathlib import Path

from cnnbench.console import console
from cnnbench.data.datamodule import ImageData
from cnnbench.data.folder_scan import some
from cnnbench.data.options import Sharding
from cnnbench.data.png_sets import origin
from cnnbench.data.taken import Taken
from cnnbench.settings.data import Data
from cnnbench.settings.model import Arch
from cnnbench.training.rank import ALONE, Rank


def make_data(data: Data, arch: Arch, seed: int, rank: Rank = ALONE, least_images: int = 2) -> ImageData:
    """Read or locate the images that the settings describe.

    Args:
        data: which images, and how they are split, batched and augmented.
        arch: what the model takes.
        seed: of the order and the augmentation.
        rank: of this process among those that share each batch.
        least_images: that each of them needs of a training batch.

    Raises:
        InputError: the images are missing, or the settings do not fit them.
    """
    return ImageData(
        data.source(),
        data.splitting(),
        data.batching(seed),
        data.augment.augmentation(),
        arch.model_input(),
        Sharding(rank=rank.rank, world=rank.world, least_images=least_images),
    )


def training_data(data: Data, arch: Arch, seed: int, rank: Rank = ALONE, least_images: int = 2) -> ImageData:
    """Do as `make_data`, and print which files are taken where that can be in question."""
    images = make_data(data, arch, seed, rank, least_images)
    if images.taken and rank.rank == 0:
        _announce(images.taken, images.preparation.centre)
    elif rank.rank == 0 and (files := origin(data.name, Path(data.root).expanduser())):
        console.print(f"images: {files}", style="dim", highlight=False, markup=False, soft_wrap=True)
    return images


def _announce(taken: Taken, kept: float | None) -> None:
    """Print what is taken of an image folder, and warn of what should not be in it."""
    left_out = f"; left out: {', '.join(taken.left_out)}" if taken.left_out else ""
    line = f"images: {some(taken.counts)}{left_out}; evaluation keeps {kept:.4g} of the side (data.eval_crop)"
    console.print(line, style="dim", highlight=False, markup=False, soft_wrap=True)
    for doubles in taken.doubled:
        console.print(f"images: {doubles}", style="yellow", highlight=False, markup=False, soft_wrap=True)
