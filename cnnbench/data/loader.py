"""Batches of images, from memory or decoded from files.

A batch is (images uint8 (N, C, H, W), labels int64 (N,), key), where the key seeds all draws for that batch.
Order and keys follow from (seed, epoch) alone, so that any batch of any epoch can be built without the
preceding ones.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cnnbench.data.sampler import BatchSpec, EpochOrder
from cnnbench.data.transforms import decode
from cnnbench.seeds import mix

Batch = tuple[Tensor, Tensor, int]

Transform = Callable[[Tensor], Tensor]
"""Transform of one uint8 (C, H, W) image; it draws from torch's global generator."""


@dataclass
class MemoryImages(Dataset[Batch]):
    """Batches of images in memory.

    Attributes:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,).
        transform: of each image; None: none.
        seed: of its draws.
    """

    pixels: Tensor
    labels: Tensor
    transform: Transform | None = None
    seed: int = 0

    def __getitem__(self, spec: BatchSpec) -> Batch:
        images = self.pixels[spec.indices]
        if self.transform is not None:
            for image, _ in zip(images, _seeded(self.seed, spec), strict=True):
                image.copy_(self.transform(image))
        return images, self.labels[spec.indices], spec.key


@dataclass
class FileImages(Dataset[Batch]):
    """Batches of image files, decoded as they are needed.

    Attributes:
        paths: N files.
        labels: int64 (N,).
        size: side of the images in pixels.
        transform: of each image, to (C, size, size).
        seed: of its draws.
    """

    paths: list[Path]
    labels: Tensor
    size: int
    transform: Transform
    seed: int = 0

    def __getitem__(self, spec: BatchSpec) -> Batch:
        images = [self.transform(decode(self.paths[index], self.size)) for index in _seeded(self.seed, spec)]
        return torch.stack(images), self.labels[spec.indices], spec.key


def _seeded(seed: int, spec: BatchSpec) -> Iterator[int]:
    """Yield the indices of a batch, with torch's global generator seeded for each; restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        for index in spec.indices:
            # torch.manual_seed takes 0.3 ms, since it seeds all devices
            torch.default_generator.manual_seed(mix("image", seed, spec.epoch, index))
            yield index


def loader(
    dataset: MemoryImages | FileImages, order: EpochOrder, *, workers: int, pin: bool
) -> DataLoader[Batch]:
    """Return a DataLoader of whole batches.

    Args:
        dataset: the images.
        order: the batches.
        workers: worker processes; 0: none.
        pin: copy batches to pinned memory, for a GPU.
    """
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
    """Ignore Ctrl-C, which reaches the whole process group: the parent ends workers without tracebacks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
