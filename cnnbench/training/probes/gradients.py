"""`probes=gradients`: norms of the gradients of each layer's weights."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from cnnbench.training.probes.layers import weights_by_layer
from cnnbench.training.probes.series import Series
from cnnbench.training.probes.undisturbed import model_of


class Gradients(Series):
    """Norm of the gradient that the next optimizer step gets, of the weights, and their ratio.

    With accumulated batches it is their mean; it is not clipped yet, and not scaled as for float16.
    """

    name = "gradients"
    quantities = ("gradient", "weights", "ratio")

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Measure."""
        if not self.is_due(trainer):
            return
        measured: dict[str, list[Tensor | float]] = {}
        for name, weights in weights_by_layer(model_of(pl_module)).items():
            size = torch.linalg.vector_norm(weights.detach().float())
            if weights.grad is None:  # frozen, or not used
                measured[name] = [math.nan, size, math.nan]
            else:
                gradient = torch.linalg.vector_norm(weights.grad.float())
                measured[name] = [gradient, size, gradient / size]
        self.add(trainer.global_step, measured)
