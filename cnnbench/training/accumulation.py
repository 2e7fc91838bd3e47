"""Accumulation of gradients over several batches for one optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

from cnnbench.errors import InputError


@dataclass(frozen=True)
class Accumulation:
    """Groups of batches whose gradients are accumulated for an optimizer step.

    Attributes:
        accumulate: batches of a group; the last one of an epoch may be smaller.
        batches: in an epoch.

    Raises:
        InputError: a group would be larger than an epoch.
    """

    accumulate: int
    batches: int

    def __post_init__(self) -> None:
        if self.accumulate > self.batches:
            raise InputError(
                f"trainer.accumulate={self.accumulate}: an epoch has {self.batches} "
                f"{'batch' if self.batches == 1 else 'batches'}; allowed: 1 to {self.batches}"
            )

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return -(-self.batches // self.accumulate)

    def weight(self, batch: int) -> float:
        """Return a factor of a batch's loss: Lightning divides by `accumulate` in the last group, too."""
        left = self.batches % self.accumulate
        return self.accumulate / left if batch >= self.batches - left else 1.0
