"""`probes=activations`: what each layer sends into its activation, and how much of it is flat there."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from cnnbench.training.probes.layers import PEAK, slopes, watched_layers
from cnnbench.training.probes.series import Series
from cnnbench.training.probes.undisturbed import model_of, undisturbed

FLAT = 0.05
"""A value is saturated where the slope of the activation is less than this share of its largest."""


class Activations(Series):
    """Mean and deviation over images, channels and pixels; shares of saturated values and of dead units.

    A unit, the channel of a map, is dead if the slope is 0 for all images at all pixels.

    Args:
        every: see `Series`.
        images: (N, C, H, W), always the same.
    """

    name = "activations"
    quantities = ("mean", "deviation", "saturated", "dead")

    def __init__(self, every: int, images: Tensor) -> None:
        super().__init__(every)
        self.images = images

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure before the next step."""
        if self.is_due(trainer):
            self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure after the last step."""
        if self.is_at_end(trainer):
            self._measure(trainer, pl_module)

    def _measure(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.images = self.images.to(module.device)
        measured: dict[str, list[Tensor | float]] = {}

        def see(name: str, entering: Tensor, activation: nn.Module | None) -> None:
            measured[name] = [*_moments(entering), *_flat(entering, activation)]

        with torch.no_grad(), undisturbed(trainer, module), watched_layers(model_of(module), see):
            module(self.images)
        self.add(trainer.global_step, measured)


def _moments(x: Tensor) -> list[Tensor]:
    deviation, mean = torch.std_mean(x.float(), correction=0)
    return [mean, deviation]


def _flat(x: Tensor, activation: nn.Module | None) -> list[Tensor | float]:
    """Return the shares of saturated values and of dead units; nan without an activation or of nan."""
    if activation is None or bool(x.isnan().any()):
        return [math.nan, math.nan]
    slope = slopes(activation, x)
    saturated = (slope.abs() < FLAT * PEAK.get(type(activation), 1.0)).float().mean()
    dead = (slope == 0).transpose(0, 1).flatten(1).all(1).float().mean()
    return [saturated, dead]
