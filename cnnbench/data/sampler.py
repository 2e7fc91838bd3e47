"""The order of an epoch, and the share of each process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from cnnbench.seeds import mix


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
