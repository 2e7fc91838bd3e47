"""Batches of images, from memory or decoded from files.

A batch is (images uint8 (N, C, H, W), labels int64 (N,), key, total), where the key seeds all draws for that
batch, and the total counts its images in all processes that share it.
Order and keys follow from (seed, epoch) alone, so that any batch of any epoch can be built without the
preceding ones.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cnnbench.data.image_file import Memory, stamp
from cnnbench.data.options import Flip
from cnnbench.data.sampler import BatchSpec, EpochOrder
from cnnbench.data.transforms import Transform, decode
from cnnbench.errors import Unreadable
from cnnbench.seeds import mix

Batch = tuple[Tensor, Tensor, int, int]


class Unread(NamedTuple):
    """A file that cannot be read, in place of its batch."""

    path: str
    reason: str


Item = Batch | Unread


@dataclass
class MemoryImages(Dataset[Item]):
    """Batches of images in memory.

    Attributes:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,).
        transform: of each image; None: none.
        seed: of its draws.
        flips: bool (N,), the images to mirror in even epochs, the others in odd ones; None: mirror none.
    """

    pixels: Tensor
    labels: Tensor
    transform: Transform | None = None
    seed: int = 0
    flips: Tensor | None = None

    def __getitem__(self, spec: BatchSpec) -> Batch:
        images = _alternated(self.pixels[spec.indices], spec, self.flips)
        if self.transform is not None:
            for image, _ in zip(images, _seeded(self.seed, spec), strict=True):
                image.copy_(self.transform(image))
        return images, self.labels[spec.indices], spec.key, spec.total


@dataclass
class FileImages(Dataset[Item]):
    """Batches of image files, decoded as they are needed.

    Attributes:
        paths: N files.
        labels: int64 (N,).
        size: side of the images in pixels.
        transform: of each image, to (C, size, size).
        memory: of the images that are decoded at the same time.
        seed: of the draws of `transform`.
        flips: see `MemoryImages`.
    """

    paths: list[Path]
    labels: Tensor
    size: int
    transform: Transform
    memory: Memory
    seed: int = 0
    flips: Tensor | None = None

    def __post_init__(self) -> None:
        self.stamps = torch.tensor([stamp(path) for path in self.paths])

    def __getitem__(self, spec: BatchSpec) -> Item:
        try:
            images = [self._image(index) for index in _seeded(self.seed, spec)]
        except Unreadable as error:  # raised in a worker, it would become a traceback in the message
            return Unread(str(error.path), error.reason)
        batch = _alternated(torch.stack(images), spec, self.flips)
        return batch, self.labels[spec.indices], spec.key, spec.total

    def _image(self, index: int) -> Tensor:
        """Read an image.

        Raises:
            Unreadable: it cannot be read, or is no longer the file that the run began with.
        """
        path = self.paths[index]
        image = decode(path, self.size, self.transform, self.memory)
        if stamp(path) != self.stamps[index].tolist():
            raise Unreadable(path, "the file has changed since the run began")
        return image


def alternating_flips(flip: Flip, count: int, seed: int) -> Tensor | None:
    """Draw the images that are mirrored in even epochs: bool (N,); None if flips do not alternate.

    Each image is seen in both ways within any two epochs, where independent draws repeat half of the images
    (arXiv:2404.00498, section 3.4).
    """
    if flip != "alternating":
        return None
    return torch.rand(count, generator=torch.Generator().manual_seed(mix("flip", seed))) < 0.5


def _alternated(images: Tensor, spec: BatchSpec, flips: Tensor | None) -> Tensor:
    """Mirror the images of a batch whose turn it is: (N, C, H, W) -> (N, C, H, W)."""
    if flips is None:
        return images
    turn = flips[spec.indices] ^ bool(spec.epoch % 2)
    return torch.where(turn[:, None, None, None], images.flip(3), images)


def _seeded(seed: int, spec: BatchSpec) -> Iterator[int]:
    """Yield the indices of a batch, with torch's global generator seeded for each; restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        for index, earlier in zip(spec.indices, spec.earlier, strict=True):
            again = [earlier] if earlier else []  # an image that is drawn twice is augmented in two ways
            # torch.manual_seed takes 0.3 ms, since it seeds all devices
            torch.default_generator.manual_seed(mix("image", seed, spec.epoch, index, *again))
            yield index


def loader(
    dataset: MemoryImages | FileImages, order: EpochOrder, *, workers: int, pin: bool
) -> DataLoader[Item]:
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
