"""Order of the images in an epoch, and each process's share of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Sampler

from cnnbench.seeds import mix


class BatchSpec(NamedTuple):
    """Images of one batch, and the seeds of its draws.

    Attributes:
        epoch: with an image's index, the seed of what is drawn for that image.
        key: seed of what is drawn for the batch.
        total: number of images of the batch, over all processes.
        indices: of the images of this process.
        earlier: how often each of them came before in this epoch, also a part of its seed.
    """

    epoch: int
    key: int
    total: int
    indices: list[int]
    earlier: list[int]


class EpochOrder(Sampler[BatchSpec]):
    """Sampler of the batches of one epoch, in an order that follows from (seed, epoch).

    Training may drop an incomplete last batch, unless it is the only one; evaluation keeps it.

    Args:
        count: number of images.
        batch_size: images of a batch, over all processes.
        seed: of the order and the draws.
        shuffle: draw the order, as for training.
        balanced: labels (count,), to draw each image anew, of a class that is equally likely as each other;
            None: each image comes once.
        drop_last: drop an incomplete last batch of training, whose batch statistics are of few images.
        epoch: number of the epoch.
        start: batches that an interrupted epoch has had already, which are skipped.
        rank, world: of `world` processes that train together, that of this `rank` gets its share of each
            training batch, or of all images for evaluation, in as many batches as the others: none waits.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        balanced: Tensor | None = None,
        drop_last: bool = True,
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.balanced = balanced
        self.drop_last, self.epoch, self.start = shuffle and drop_last, epoch, start
        self.rank, self.world = rank, world

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.drop_last and self.count >= self.batch_size:
            return self.count // self.batch_size
        return -(-self.count // self.batch_size)

    @property
    def images(self) -> int:
        """Number of images of an epoch, over all processes, without those that are dropped."""
        return min(self.count, len(self) * self.batch_size)

    @property
    def smallest(self) -> int:
        """Number of images of the smallest training batch, over all processes: that of the last one."""
        return self.total(len(self) - 1)

    def total(self, batch: int) -> int:
        """Return the number of images of a training batch, over all processes."""
        return min(self.count - batch * self.batch_size, self.batch_size)

    def __iter__(self) -> Iterator[BatchSpec]:
        first, self.start = self.start, 0
        if self.shuffle:
            generator = torch.Generator().manual_seed(mix("order", self.seed, self.epoch))
            if self.balanced is None:
                order = torch.randperm(self.count, generator=generator)
            else:
                order = balanced_order(self.balanced, generator)
        else:
            order = torch.arange(self.count)[share(self.count, self.rank, self.world)]
        earlier = torch.zeros_like(order) if self.balanced is None else repeats(order)
        for batch in range(first, len(self)):
            if self.shuffle:
                start = batch * self.batch_size
                total = self.total(batch)
                mine = share(total, self.rank, self.world)
                part = slice(start + mine.start, start + mine.stop)
            else:
                part = share(len(order), batch, len(self))
                total = part.stop - part.start
            key = mix("batch", self.seed, self.epoch, batch)
            yield BatchSpec(self.epoch, key, total, order[part].tolist(), earlier[part].tolist())


def balanced_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw as many images as there are, with replacement: each class, and each of its images, equally likely.

    Args:
        labels: (N,), of which no class up to the largest is empty.
        generator: of the draws.

    Returns:
        Indices (N,).
    """
    sizes = torch.bincount(labels)
    classes = torch.randint(len(sizes), (len(labels),), generator=generator)
    place = torch.rand(len(labels), generator=generator, dtype=torch.float64) * sizes[classes]
    by_class = labels.argsort(stable=True)
    return by_class[(sizes.cumsum(0) - sizes)[classes] + place.long()]


def repeats(order: Tensor) -> Tensor:
    """Return how often each entry (N,) occurs before it in the order."""
    place = order.argsort(stable=True)
    ranked = order[place]
    earlier = torch.empty_like(order)
    earlier[place] = torch.arange(len(order)) - torch.searchsorted(ranked, ranked)
    return earlier


def share(total: int, rank: int, world: int) -> slice:
    """Return the slice of `total` items that `rank` of `world` gets; slices differ by at most one item."""
    return slice(total * rank // world, total * (rank + 1) // world)
