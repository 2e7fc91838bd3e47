"""`probes=landscape`: the loss along the gradient (arXiv:1805.11604, figure 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from cnnbench.training.probes.loss import Batch, Weights, loss_and_gradient, norm, weights_of
from cnnbench.training.probes.series import Series
from cnnbench.training.probes.undisturbed import model_of, undisturbed


class Landscape(Series):
    """Loss and gradient of the coming batch at W - d G, for several distances d; G is its gradient at W.

    Distances are in gradients, as in the paper, and not in learning rates: networks are compared over equal
    multiples of their own gradients, whatever rate each of them trains with. `smoothness` is
    |G(W - d G) - G| / |d G|; its largest value over the distances is the effective beta-smoothness of the
    paper.

    Args:
        every: see `Series`.
        distances: d, in increasing order; 0 is added.
    """

    name = "landscape"
    about = "distance"
    quantities = ("loss", "gradient_change", "smoothness")

    def __init__(self, every: int, distances: Sequence[float]) -> None:
        super().__init__(every)
        self.distances = list(distances)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Measure before the next step."""
        if self.is_due(trainer):
            weights = weights_of(pl_module)
            with undisturbed(trainer, pl_module):
                measured = along_gradient(pl_module, weights, self.distances, (batch[0], batch[1]))
            self.add(trainer.global_step, measured)


def along_gradient(
    module: pl.LightningModule, weights: Weights, distances: Sequence[float], batch: Batch
) -> dict[float, list[Tensor | float]]:
    """Return loss, change of the gradient and smoothness at each distance, the first of which is 0.

    Args:
        module: the classifier, within `undisturbed`.
        weights: all parameters of its model.
        distances: in gradients.
        batch: of which the loss is taken.
    """
    trained = [name for name, parameter in model_of(module).named_parameters() if parameter.requires_grad]
    loss, gradient = loss_and_gradient(module, weights, trained, batch)
    measured: dict[float, list[Tensor | float]] = {0.0: [loss, 0.0, math.nan]}
    size = norm(gradient)
    for distance in distances:
        moves = dict(zip(trained, gradient, strict=True))
        there = {key: w - distance * moves[key] if key in moves else w for key, w in weights.items()}
        loss, other = loss_and_gradient(module, there, trained, batch)
        change = norm([a - b for a, b in zip(other, gradient, strict=True)])
        measured[distance] = [loss, change, change / (distance * size)]
    return measured
