"""From images to batches: the order of an epoch, and decoding.

A batch is (images uint8 (N, C, H, W), labels int64 (N,), key), where the key seeds whatever is
drawn for that batch. Order and keys follow from (seed, epoch) alone, so that any batch of any
epoch can be made without those before it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from cnnbench.data.folder import in_threads, open_rgb
from cnnbench.seeds import mix

Batch = tuple[Tensor, Tensor, int]
Transform = Callable[[Tensor], Tensor]
"""On one uint8 (C, H, W) image; what it draws, it draws from torch's global generator."""

EVAL_CROP = 0.875
"""Share of the shorter side that is kept around the centre when image files are evaluated."""

LONGEST = 32
"""Times that an image may be longer than wide before its ends are cut off."""


class Place(NamedTuple):
    """Which images make up one batch, and the seeds that its draws start from."""

    epoch: int
    key: int
    indices: list[int]


class EpochOrder(Sampler[Place]):
    """The batches of one epoch as `Place`s, in an order that follows from (seed, epoch).

    Training drops the last incomplete batch (a batch of one has no batch statistics) unless there
    is no other; evaluation keeps it. `start` skips the batches that an interrupted epoch already had.

    Of `world` processes that train together, the one of this `rank` gets its share of each training batch,
    or of all images for evaluation, in as many batches as the others: none waits for one that has no more.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.epoch, self.start = epoch, start
        self.rank, self.world = rank, world

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle and self.count >= self.batch_size:
            return self.count // self.batch_size
        return -(-self.count // self.batch_size)

    @property
    def total(self) -> int:
        """Images of a training batch, those of all processes."""
        return min(self.count, self.batch_size)

    def __iter__(self) -> Iterator[Place]:
        first, self.start = self.start, 0
        if self.shuffle:
            generator = torch.Generator().manual_seed(mix("order", self.seed, self.epoch))
            order = torch.randperm(self.count, generator=generator)
        else:
            order = torch.arange(self.count)[share(self.count, self.rank, self.world)]
        for batch in range(first, len(self)):
            if self.shuffle:
                chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                chosen = chosen[share(len(chosen), self.rank, self.world)]
            else:
                chosen = order[share(len(order), batch, len(self))]
            yield Place(self.epoch, mix("batch", self.seed, self.epoch, batch), chosen.tolist())


def share(total: int, rank: int, world: int) -> slice:
    """The part of `total` things that falls to one of `world`; the parts are equal to within one."""
    return slice(total * rank // world, total * (rank + 1) // world)


@dataclass
class MemoryImages(Dataset[Batch]):
    """Images that lie in memory as one uint8 tensor (N, C, H, W)."""

    pixels: Tensor
    labels: Tensor
    transform: Transform | None = None
    seed: int = 0

    def __getitem__(self, place: Place) -> Batch:
        images = self.pixels[place.indices]
        if self.transform is not None:
            for image, _ in zip(images, _seeded(self.seed, place), strict=True):
                image.copy_(self.transform(image))
        return images, self.labels[place.indices], place.key


@dataclass
class FileImages(Dataset[Batch]):
    """Image files, decoded when they are asked for; `transform` cuts and resizes to (C, size, size)."""

    paths: list[Path]
    labels: Tensor
    size: int
    transform: Transform
    seed: int = 0

    def __getitem__(self, place: Place) -> Batch:
        images = [self.transform(decode(self.paths[index], self.size)) for index in _seeded(self.seed, place)]
        return torch.stack(images), self.labels[place.indices], place.key


def _seeded(seed: int, place: Place) -> Iterator[int]:
    """The indices of a batch, torch's global generator seeded for each, and as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        for index in place.indices:
            # torch.manual_seed takes 0.3 ms, since it seeds every device there may be
            torch.default_generator.manual_seed(mix("image", seed, place.epoch, index))
            yield index


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
    from cnnbench.ui import progress

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


def loader(
    dataset: MemoryImages | FileImages, order: EpochOrder, *, workers: int, pin: bool
) -> DataLoader[Batch]:
    """A DataLoader that asks the data set for whole batches."""
    return DataLoader(
        dataset,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
        worker_init_fn=_leave_signals_to_the_parent,
    )


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the parent ends its workers itself, without tracebacks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
