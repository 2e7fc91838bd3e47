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

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cnnbench.data.sampler import EpochOrder, Place
from cnnbench.data.transforms import decode
from cnnbench.seeds import mix

Batch = tuple[Tensor, Tensor, int]

Transform = Callable[[Tensor], Tensor]
"""On one uint8 (C, H, W) image; what it draws, it draws from torch's global generator."""


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
