"""Options of `ImageData` as small records, which the settings fill. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DECODE_MIB = 2048
"""Default of `data.decode_mib` and `--decode-mib`."""

EVAL_CROP = 0.875
"""Share of the shorter side that evaluation keeps around the centre of image files that it resizes."""

Policy = Literal["none", "randaugment", "trivialaugment"]
"""Augmentation policies of torchvision: arXiv:1909.13719, arXiv:2103.10158."""

Flip = Literal[False, True, "alternating"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Data set, and the size of its images.

    Attributes:
        name: a key of `cnnbench.data.datasets.DATASETS`.
        root: folder of the data sets, where missing ones are downloaded to.
        size: side in pixels that images are resized to; None: the data set's own.
        eval_crop: share of the shorter side that evaluation keeps of image files; None: see
            `cnnbench.data.image_folder.eval_crop`.
        num_classes: number of classes; only `synthetic` has it as a setting.
        mean, std: by which images are normalised, for each channel or one for all, of pixels in [0, 1]; None:
            the data set's own, or ImageNet's with its published weights.
    """

    name: str
    root: str | Path
    size: int | None = None
    eval_crop: float | None = None
    num_classes: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """Division of a data set into train, val and test; see `cnnbench.data.split`.

    Attributes:
        val_fraction: share of the training images that is set aside for val; 0: those of the set are trained
            on, too.
        split_seed: draws val, and what `limit` keeps.
        limit: most images for train and val together; None: all.
        limit_test: most images for test; None: all.
    """

    val_fraction: float
    split_seed: int
    limit: int | None = None
    limit_test: int | None = None


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Batches of images, and how they are read.

    Attributes:
        batch_size: images of a training batch, those of all processes together.
        seed: decides the order of each epoch and all draws of augmentation.
        in_memory: decode image files once, instead of for each batch.
        sampler: `shuffle`: each image once an epoch; `balanced`: as many draws, each class equally likely.
        drop_last: leave out the images of an epoch that do not fill a last batch.
        num_workers: worker processes that decode image files and augment single images; 0: none.
        decode_mib: most MiB that image files take while they are decoded, in all workers together.
    """

    batch_size: int
    seed: int
    in_memory: bool = True
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    drop_last: bool = True
    num_workers: int = 0
    decode_mib: int = DECODE_MIB


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation of training images; the default is none.

    Attributes:
        resized_crop: least and greatest share of the area that a random crop keeps before it is resized.
        crop: pixels of zero padding before a random crop of the original size.
        flip: mirror left and right at random; `alternating`: in every second epoch, see `MemoryImages`.
        jitter: greatest relative change of brightness, contrast and saturation.
        cutout: side in pixels of a square that is set to zero (arXiv:1708.04552).
        erase: probability that a random rectangle is set to zero (arXiv:1708.04896).
        policy: of torchvision.
    """

    resized_crop: tuple[float, float] | None = None
    crop: int = 0
    flip: Flip = False
    jitter: float = 0.0
    cutout: int = 0
    erase: float = 0.0
    policy: Policy = "none"


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """Input that the model takes.

    Attributes:
        channels: number of channels, to which grey images are repeated; None: the data set's own.
        imagenet_normalisation: normalise colour images with the mean and deviation of ImageNet, as its
            published weights expect, instead of the data set's own.
    """

    channels: int | None = None
    imagenet_normalisation: bool = False


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """Division of each batch among the processes that train together.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        least_images: images of a training batch that each process needs.
    """

    rank: int = 0
    world: int = 1
    least_images: int = 2
