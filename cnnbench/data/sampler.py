"""Order of the images in an epoch, and each process's share of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from cnnbench.seeds import mix


class BatchSpec(NamedTuple):
    """Images of one batch, and the seeds of its draws.

    Attributes:
        epoch: with an image's index, the seed of what is drawn for that image.
        key: seed of what is drawn for the batch.
        indices: of the images.
    """

    epoch: int
    key: int
    indices: list[int]


class EpochOrder(Sampler[BatchSpec]):
    """Sampler of the batches of one epoch, in an order that follows from (seed, epoch).

    Training drops an incomplete last batch (a single image has no batch statistics) unless it is the only
    one; evaluation keeps it.

    Args:
        count: number of images.
        batch_size: images of a batch, over all processes.
        seed: of the order and the draws.
        shuffle: draw the order, as for training.
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
        epoch: int = 0,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.epoch, self.start = epoch, start
        self.rank, self.world = rank, world

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.shuffle and self.count >= self.batch_size:
            return self.count // self.batch_size
        return -(-self.count // self.batch_size)

    @property
    def total(self) -> int:
        """Number of images of a training batch, over all processes."""
        return min(self.count, self.batch_size)

    def __iter__(self) -> Iterator[BatchSpec]:
        first, self.start = self.start, 0
        if self.shuffle:
            generator = torch.Generator().manual_seed(mix("order", self.seed, self.epoch))
            order = torch.randperm(self.count, generator=generator)
        else:
            order = torch.arange(self.count)[share(self.count, self.rank, self.world)]
        for batch in range(first, len(self)):
            if self.shuffle:
                indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                indices = indices[share(len(indices), self.rank, self.world)]
            else:
                indices = order[share(len(order), batch, len(self))]
            yield BatchSpec(self.epoch, mix("batch", self.seed, self.epoch, batch), indices.tolist())


def share(total: int, rank: int, world: int) -> slice:
    """Return the slice of `total` items that `rank` of `world` gets; slices differ by at most one item."""
    return slice(total * rank // world, total * (rank + 1) // world)
