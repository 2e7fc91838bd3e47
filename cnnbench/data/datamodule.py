"""The data of one run as a LightningDataModule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from cnnbench.data import augment as aug
from cnnbench.data import datasets
from cnnbench.data.images import Images
from cnnbench.data.loader import Batch, FileImages, MemoryImages, loader
from cnnbench.data.preprocessing import preparation
from cnnbench.data.sampler import EpochOrder, share
from cnnbench.data.split import split
from cnnbench.data.transforms import decode_all, eval_transform, train_transforms
from cnnbench.errors import InputError

EVAL_BATCH = 4
"""Evaluation keeps no gradients: its batches are so many times larger."""


@dataclass(frozen=True)
class Augment:
    """What happens to training images; see `data.augment` in conf/settings.yaml."""

    resized_crop: tuple[float, float] | None = None
    crop: int = 0
    flip: bool = False
    cutout: int = 0
    policy: str = "none"


class ImageData(pl.LightningDataModule):
    """Reads, splits, batches and augments one data set.

    Everything that can be wrong with the data is found when it is constructed. Batches reach the
    model as (float32 (N, C, H, W), int64 (N,)), normalised; augmentation runs on the model's device.

    `imagenet_normalisation` normalises colour images as ImageNet's weights expect it. `batch_size` counts the
    images of all `world` processes that train together, of which this is the one of `rank`; each needs
    `least_images` of a training batch.

    Attributes:
        train, val, test: the three parts.
        channels, size, num_classes: what a model must fit.
        preparation: what becomes of an image when it is evaluated.

    Raises:
        InputError: see `sets.load`, and sizes that do not fit each other.
    """

    def __init__(
        self,
        name: str,
        root: str | Path,
        *,
        seed: int,
        size: int | None = None,
        channels: int | None = None,
        limit: int | None = None,
        limit_test: int | None = None,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 64,
        in_memory: bool = True,
        num_workers: int = 0,
        num_classes: int | None = None,
        augment: Augment = Augment(),
        imagenet_normalisation: bool = False,
        rank: int = 0,
        world: int = 1,
        least_images: int = 2,
    ) -> None:
        super().__init__()
        self.name, self.seed, self.batch_size = name, seed, batch_size
        self.rank, self.world, self.least_images = rank, world, least_images
        self.workers, self.augment = num_workers, augment
        datasets.check_classes(name, num_classes)
        if name == "synthetic":
            if size is None or limit is None or limit_test is None or num_classes is None:
                raise InputError(
                    "data=synthetic needs data.size, data.num_classes, data.limit and data.limit_test"
                )
            parts = datasets.synthetic(size, num_classes, limit, limit_test, split_seed)
        else:
            parts = datasets.load(name, Path(root).expanduser())
        first = next(iter(parts.values()))
        self.classes, self.num_classes = first.classes, len(first.classes)
        self.preparation = preparation(
            name, self.classes, first.pixels, size, channels, imagenet_normalisation=imagenet_normalisation
        )
        self.size, self.channels = self.preparation.size, self.preparation.channels
        self.mean, self.std = tuple(self.preparation.mean), tuple(self.preparation.std)
        self._check_augment()
        *three, self.split = split(name, parts, limit, limit_test, val_fraction, split_seed)
        self._check_shares(*(len(part.labels) for part in three))
        self.train, self.val, self.test = (self._sized(part, in_memory) for part in three)

    def _check_shares(self, train: int, val: int, test: int) -> None:
        """Whether each of the processes that train together has something to do."""
        if self.world == 1:
            return
        images = min(train, self.batch_size)
        if images < self.least_images * self.world:
            raise InputError(
                f"device: {self.world} processes share {images} images of a training batch; "
                f"allowed: {images // self.least_images} processes at most"
            )
        if (fewest := min(val, test)) < self.world:
            raise InputError(
                f"device: {self.world} processes share {fewest} images for val or test; "
                f"allowed: {fewest} processes at most"
            )

    def _check_augment(self) -> None:
        """Whether what is cut off or out of training images is no larger than they are."""
        for setting, most in (("crop", self.size), ("cutout", 2 * self.size)):
            if (value := getattr(self.augment, setting)) > most:
                raise InputError(
                    f"data.augment.{setting}={value}: the images are {self.size} pixels wide; "
                    f"allowed: 0 to {most}"
                )

    def _sized(self, part: Images, in_memory: bool) -> Images:
        """Bring one part to its final size, or leave files to be decoded later."""
        pixels = part.pixels
        if not isinstance(pixels, Tensor):
            return Images(decode_all(pixels, self.size), part.labels, part.classes) if in_memory else part
        if pixels.shape[-1] == self.size:
            return part
        # In slices: resizing makes them float32, which takes four times the memory.
        sized = [
            tvf.resize(some, [self.size, self.size], antialias=True) for some in torch.split(pixels, 1024)
        ]
        return Images(torch.cat(sized), part.labels, part.classes)

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded with a run: sizes and the split's digest."""
        return {
            "data/train": len(self.train.labels),
            "data/val": len(self.val.labels),
            "data/test": len(self.test.labels),
            "data/classes": self.num_classes,
            "data/split": self.split,
        }

    @property
    def batches(self) -> int:
        """Training batches in an epoch."""
        return len(self._train_order())

    # --- Lightning's hooks ----------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the epoch that the trainer is in, from the batch where it stands.

        Lightning starts the iterator before it tells the sampler which epoch is resumed, so that
        prefetching workers would see epoch 0: the place is given here.
        """
        order = self._train_order()
        if self.trainer is not None:
            loop: Any = self.trainer.fit_loop
            order.epoch = loop.epoch_progress.current.processed
            order.start = loop.epoch_loop.batch_progress.current.ready if loop.restarting else 0
        drawn = train_transforms(self.size, self.augment.resized_crop, self.augment.policy)
        return self._loader(self.train, order, drawn, cut=self.augment.resized_crop is None)

    def _train_order(self) -> EpochOrder:
        return EpochOrder(
            len(self.train.labels),
            self.batch_size,
            seed=self.seed,
            shuffle=True,
            rank=self.rank,
            world=self.world,
        )

    @property
    def part(self) -> aug.BatchShard:
        """What of a training batch comes to this process."""
        total = self._train_order().total
        return aug.BatchShard(total, share(total, self.rank, self.world))

    @property
    def weight(self) -> float:
        """Of this part's mean loss, such that the mean over the processes is the mean over all images."""
        total, mine = self.part
        return float(mine.stop - mine.start) * self.world / total

    def val_dataloader(self) -> DataLoader[Batch]:
        """The val images in a fixed order."""
        return self._eval_loader(self.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test images in a fixed order."""
        return self._eval_loader(self.test)

    def _eval_loader(self, part: Images) -> DataLoader[Batch]:
        order = EpochOrder(len(part.labels), EVAL_BATCH * self.batch_size, rank=self.rank, world=self.world)
        return self._loader(part, order, [], cut=True)

    def _loader(
        self, part: Images, order: EpochOrder, drawn: list[v2.Transform], *, cut: bool
    ) -> DataLoader[Batch]:
        """Batches of `part`; `cut` takes the centre of image files, which nothing in `drawn` cuts."""
        dataset: MemoryImages | FileImages
        labels, seed, workers = torch.from_numpy(part.labels), self.seed, self.workers
        if isinstance(part.pixels, Tensor):
            dataset = MemoryImages(part.pixels, labels, v2.Compose(drawn) if drawn else None, seed)
            workers = workers if drawn else 0  # indexing is quicker than passing batches between processes
        else:
            transform = v2.Compose([eval_transform(self.size), *drawn] if cut else drawn)
            dataset = FileImages(part.pixels, labels, self.size, transform, seed)
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return loader(dataset, order, workers=workers, pin=on_gpu)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """uint8 to normalised float on the model's device, augmented while training."""
        images, labels, key = batch
        training = self.trainer is not None and self.trainer.training
        return self.transform(images, key if training else None), labels

    def transform(self, images: Tensor, key: int | None) -> Tensor:
        """uint8 (N, c, H, W) to float32 (N, C, H, W); with a key, augmented by draws from it."""
        generator = torch.Generator(images.device)
        part = self.part if self.world > 1 else None
        if key is not None:
            generator.manual_seed(key)
            if self.augment.crop:
                images = aug.random_crop(images, self.augment.crop, generator, part)
            if self.augment.flip:
                images = aug.random_flip(images, generator, part)
        pixels = self.preparation.normalise(images)
        if key is not None and self.augment.cutout:
            pixels = aug.cutout(pixels, self.augment.cutout, generator, part)
        return pixels

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint carries under the name of this class, so that it can be used by itself."""
        return self.preparation.plain()
