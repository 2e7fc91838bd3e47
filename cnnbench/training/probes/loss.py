"""Loss and gradient of a batch at other weights than the model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from cnnbench.training.probes.undisturbed import model_of

Weights = Mapping[str, Tensor]

Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) and labels (N,)."""


def weights_of(module: pl.LightningModule) -> dict[str, Tensor]:
    """Return a copy of the parameters of a classifier's model, by name."""
    return {name: parameter.detach().clone() for name, parameter in model_of(module).named_parameters()}


def loss_and_gradient(
    module: pl.LightningModule, weights: Weights, names: Sequence[str], batch: Batch
) -> tuple[Tensor, list[Tensor]]:
    """Return the mean cross-entropy of a batch at given weights, and its gradient for some of them.

    Args:
        module: the classifier, within `undisturbed`.
        weights: all parameters of its model, by name.
        names: of those with respect to which the gradient is taken.
        batch: the images and labels.
    """
    images, labels = batch
    variables = {name: weights[name].detach().requires_grad_() for name in names}
    with torch.enable_grad():
        logits = functional_call(model_of(module), {**weights, **variables}, (images.to(module.dtype),))
        loss = F.cross_entropy(logits.float(), labels)
        gradients = torch.autograd.grad(loss, list(variables.values()), allow_unused=True)
    zeros = (torch.zeros_like(weights[name]) for name in names)
    return loss.detach(), [z if g is None else g for g, z in zip(gradients, zeros, strict=True)]


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of several tensors as one vector."""
    norms = torch.stack([torch.linalg.vector_norm(tensor.float()) for tensor in tensors])
    return cast(Tensor, torch.linalg.vector_norm(norms))
