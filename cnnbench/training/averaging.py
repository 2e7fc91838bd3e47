"""Exponential moving average of the weights, which val, test and the best checkpoint use."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging


class MovingAverage(WeightAveraging):
    """Average of the weights after each optimizer step, in which older ones count less and less.

    The decay after n steps is min(`decay`, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage:
    with a constant decay, the first weights would count decay^n, which in a short training is nearly all. The
    running statistics of batch norm are averaged like weights; counters are copied.

    Args:
        decay: share that the average keeps at each step once it is warm, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.decay, self._step = decay, 0

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return True after each optimizer step."""
        if step_idx is None:
            return False
        self._step = step_idx
        return True

    def _average(self, averages: Any, weights: Any, updates: Any) -> None:
        """Move averages towards weights of the same type; the first time, torch copies them instead."""
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, weights, 1 - decay_at(self._step, self.decay))
        else:
            torch._foreach_copy_(averages, weights)


def decay_at(step: int, decay: float) -> float:
    """Return the decay of the average after a step, which are counted from 0."""
    return min(decay, (1 + step) / (10 + step))
