"""The images of a run, from its settings."""

from __future__ import annotations

from cnnbench.data.datamodule import ImageData
from cnnbench.data.options import Sharding
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
