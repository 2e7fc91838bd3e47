"""Data of one run as a LightningDataModule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from cnnbench.data import augment as aug
from cnnbench.data import datasets, in_memory
from cnnbench.data.balance import class_sizes
from cnnbench.data.image_file import Memory
from cnnbench.data.image_folder import contents
from cnnbench.data.images import Images, Splits, files
from cnnbench.data.loader import Batch, FileImages, Item, MemoryImages, Unread, alternating_flips, loader
from cnnbench.data.options import Augmentation, Batching, ModelInput, Sharding, Source, Splitting
from cnnbench.data.preprocessing import preparation
from cnnbench.data.sampler import EpochOrder, share
from cnnbench.data.split import make_splits
from cnnbench.data.taken import Taken, taken
from cnnbench.data.transforms import train_transforms
from cnnbench.errors import InputError, Unreadable

EVAL_BATCH = 4
"""Factor of the batch size in evaluation, which keeps no gradients."""


class ImageData(pl.LightningDataModule):
    """One data set, read, split, batched and augmented.

    All errors in the data are raised by the constructor. Batches reach the model as (float32 (N, C, H, W),
    int64 (N,)), normalised; augmentation of batches runs on the model's device.

    Attributes:
        train, val, test: the three splits.
        taken: of an image folder, what is taken and what is left out.
        split: digest of the splits.
        channels, size, num_classes: what a model must fit.
        classes: their names.
        preparation: preprocessing of an image for evaluation.

    Raises:
        InputError: see `datasets.load`; also sizes that do not fit each other.
    """

    def __init__(
        self,
        source: Source,
        splitting: Splitting,
        batching: Batching,
        augmentation: Augmentation,
        model_input: ModelInput,
        sharding: Sharding,
    ) -> None:
        super().__init__()
        self.batching, self.augmentation, self.sharding = batching, augmentation, sharding
        self.memory = Memory(batching.decode_mib, shared=batching.num_workers > 0)
        datasets.check_classes(source.name, source.num_classes)
        splits = self._read(source, splitting)
        first = next(iter(splits.values()))
        self.classes, self.num_classes = first.classes, len(first.classes)
        root = Path(source.root).expanduser()
        held = contents(root, files(splits)) if source.name == "imagefolder" else None
        crop = held.eval_crop(source.size) if held and source.eval_crop is None else source.eval_crop
        self.preparation = preparation(source, self.classes, first.pixels, model_input, crop)
        self.size, self.channels = self.preparation.size, self.preparation.channels
        self.mean, self.std = tuple(self.preparation.mean), tuple(self.preparation.std)
        self._check_augmentation()
        *three, self.split = make_splits(source.name, splits, splitting)
        if batching.sampler == "balanced":
            class_sizes(three[0], "data.sampler=balanced")
        self._check_sharding(*(len(images.labels) for images in three))
        self.taken: Taken | None = None  # of other data sets it is known
        if held is not None:
            parts = dict(zip(("train", "val", "test"), three, strict=True))
            self.taken = taken(root, held.equals, splits, parts)
        if batching.in_memory and not isinstance(first.pixels, Tensor):
            folder = root / (datasets.dataset(source.name).images or "")
            three = in_memory.decoded(folder, files(splits), three, self.preparation, self.memory)
        self.train, self.val, self.test = (in_memory.resized(images, self.size) for images in three)

    def _read(self, source: Source, splitting: Splitting) -> Splits:
        """Read the splits that the data set has; draw those of `synthetic`.

        Raises:
            InputError: see `datasets.load`; settings that `synthetic` needs are missing.
        """
        if source.name != "synthetic":
            return datasets.load(source.name, Path(source.root).expanduser(), source.size, self.memory)
        size, classes = source.size, source.num_classes
        limit, limit_test = splitting.limit, splitting.limit_test
        if size is None or limit is None or limit_test is None or classes is None:
            raise InputError(
                "data=synthetic needs data.size, data.num_classes, data.limit and data.limit_test"
            )
        return datasets.synthetic(size, classes, limit, limit_test, splitting.split_seed)

    def _check_sharding(self, train: int, val: int, test: int) -> None:
        """Check that each of the processes that train together gets images.

        Raises:
            InputError: more processes than the images suffice for.
        """
        world, least = self.sharding.world, self.sharding.least_images
        if world == 1:
            return
        images = self._order(train).smallest
        if images < least * world:
            raise InputError(
                f"device: {world} processes share the {images} images of the smallest training batch "
                f"(data.drop_last={str(self.batching.drop_last).lower()}); "
                f"allowed: {images // least} processes at most"
            )
        if (fewest := min(val or test, test)) < world:
            raise InputError(
                f"device: {world} processes share {fewest} images for val or test; "
                f"allowed: {fewest} processes at most"
            )

    def _check_augmentation(self) -> None:
        """Check that the training images are large enough for their augmentation.

        Raises:
            InputError: they are not.
        """
        for setting, most in (("crop", self.size), ("cutout", 2 * self.size)):
            if (value := getattr(self.augmentation, setting)) > most:
                raise InputError(
                    f"data.augment.{setting}={value}: the images are {self.size} pixels wide; "
                    f"allowed: 0 to {most}"
                )

    @property
    def facts(self) -> dict[str, Any]:
        """Facts that are recorded with a run: sizes, and the digest of the splits."""
        return {
            "data/train": len(self.train.labels),
            "data/val": len(self.val.labels),
            "data/test": len(self.test.labels),
            "data/classes": self.num_classes,
            "data/split": self.split,
            "data/chance": float(np.bincount(self.test.labels).max() / len(self.test.labels)),
            **({"data/eval_crop": crop} if (crop := self.preparation.centre) else {}),
            "data/dropped": len(self.train.labels) - self.train_order().images,
            **(self.taken.facts() if self.taken else {}),
        }

    @property
    def batches(self) -> int:
        """Number of training batches in an epoch."""
        return len(self.train_order())

    # --- Lightning's hooks ----------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Item]:
        """Return the training batches from the trainer's current epoch and batch on.

        Lightning starts the iterator before it tells the sampler which epoch is resumed, so that prefetching
        workers would see epoch 0: epoch and batch are set here.
        """
        order = self.train_order()
        if self.trainer is not None:
            loop: Any = self.trainer.fit_loop
            order.epoch = loop.epoch_progress.current.processed
            order.start = loop.epoch_loop.batch_progress.current.ready if loop.restarting else 0
        return self.train_batches(order)

    def train_batches(self, order: EpochOrder) -> DataLoader[Item]:
        """Return the training batches of an order, to be augmented by `transform`."""
        drawn = train_transforms(self.size, self.augmentation)
        flips = alternating_flips(self.augmentation.flip, len(self.train.labels), self.batching.seed)
        return self._loader(self.train, order, drawn, flips, cut=self.augmentation.resized_crop is None)

    def train_order(self) -> EpochOrder:
        """Return the order of the training images in epoch 0."""
        labels = torch.from_numpy(self.train.labels) if self.batching.sampler == "balanced" else None
        return self._order(len(self.train.labels), labels)

    def _order(self, count: int, balanced: Tensor | None = None) -> EpochOrder:
        """Return the order of so many training images."""
        return EpochOrder(
            count,
            self.batching.batch_size,
            seed=self.batching.seed,
            shuffle=True,
            balanced=balanced,
            drop_last=self.batching.drop_last,
            rank=self.sharding.rank,
            world=self.sharding.world,
        )

    def total(self, batch: int) -> int:
        """Return the number of images of a training batch, over all processes."""
        return self.train_order().total(batch)

    @property
    def smallest(self) -> aug.BatchShard:
        """This process's shard of the smallest training batch of an epoch."""
        return self._shard(self.train_order().smallest)

    def weight(self, batch: int) -> float:
        """Return the weight of this shard's mean loss, for a mean over processes that is one over images."""
        shard = self._shard(self.total(batch))
        return shard.images * self.sharding.world / shard.total

    def _shard(self, total: int) -> aug.BatchShard:
        return aug.BatchShard(total, share(total, self.sharding.rank, self.sharding.world))

    def val_dataloader(self) -> DataLoader[Item]:
        """Return the val images in a fixed order."""
        return self.evaluation_batches(self.val)

    def test_dataloader(self) -> DataLoader[Item]:
        """Return the test images in a fixed order."""
        return self.evaluation_batches(self.test)

    def evaluation_batches(self, images: Images) -> DataLoader[Item]:
        """Return images in their order, as evaluation takes them."""
        batch_size = EVAL_BATCH * self.batching.batch_size
        order = EpochOrder(len(images.labels), batch_size, rank=self.sharding.rank, world=self.sharding.world)
        return self._loader(images, order, [], cut=True)

    def _loader(
        self,
        images: Images,
        order: EpochOrder,
        drawn: list[v2.Transform],
        flips: Tensor | None = None,
        *,
        cut: bool,
    ) -> DataLoader[Item]:
        """Return batches of a split.

        Args:
            images: those of the split.
            order: its batches.
            drawn: random transforms of single images.
            flips: see `MemoryImages`.
            cut: take the centre of image files, where `drawn` cuts none out.
        """
        dataset: MemoryImages | FileImages
        labels, seed, workers = torch.from_numpy(images.labels), self.batching.seed, self.batching.num_workers
        if isinstance(images.pixels, Tensor):
            dataset = MemoryImages(images.pixels, labels, v2.Compose(drawn) if drawn else None, seed, flips)
            workers = workers if drawn else 0  # indexing is quicker than passing batches between processes
        else:
            transform = v2.Compose([self.preparation.sized, *drawn] if cut else drawn)
            dataset = FileImages(images.pixels, labels, self.size, transform, self.memory, seed, flips)
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return loader(dataset, order, workers=workers, pin=on_gpu)

    def on_before_batch_transfer(self, batch: Item, dataloader_idx: int) -> Batch:
        """Return a batch.

        Raises:
            Unreadable: one of its files cannot be read any more.
        """
        if isinstance(batch, Unread):
            raise Unreadable(*batch)
        return batch

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Return a batch, normalised on the model's device and augmented while training."""
        images, labels, key, total = batch
        training = self.trainer is not None and self.trainer.training
        return self.transform(images, key if training else None, total), labels

    def transform(self, images: Tensor, key: int | None, total: int | None = None) -> Tensor:
        """Return normalised images: uint8 (N, c, H, W) -> float32 (N, C, H, W).

        Args:
            images: of a batch.
            key: seed of their augmentation; None: not augmented.
            total: number of images of the batch in all processes that share it; None: these are all.
        """
        generator, augmentation = torch.Generator(images.device), self.augmentation
        shard = self._shard(len(images) if total is None else total)
        if key is not None:
            generator.manual_seed(key)
            if augmentation.crop:
                images = aug.random_crop(images, augmentation.crop, generator, shard)
            if augmentation.flip is True:
                images = aug.random_flip(images, generator, shard)
        pixels = self.preparation.normalise(images)
        if key is not None and augmentation.cutout:
            pixels = aug.cutout(pixels, augmentation.cutout, generator, shard)
        if key is not None and augmentation.erase:
            pixels = aug.erase(pixels, augmentation.erase, generator, shard)
        return pixels

    def state_dict(self) -> dict[str, Any]:
        """Return the preprocessing, which a checkpoint carries so that it can be used by itself."""
        return self.preparation.plain()
