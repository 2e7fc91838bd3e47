"""Loss of the training: cross-entropy, focal loss or binary cross-entropy, each the mean over the images.

A loss is called with logits (N, K) and targets, which are labels (N,) or, of mixed images, shares of the
classes (N, K).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from cnnbench.data.balance import class_weights
from cnnbench.data.datamodule import ImageData
from cnnbench.settings.run import Settings

Loss = Callable[[Tensor, Tensor], Tensor]


def training_loss(settings: Settings, data: ImageData) -> Loss:
    """Return the loss that the settings describe.

    Raises:
        InputError: the class weights do not fit the images.
    """
    recipe, weights = settings.trainer, class_weights(settings.data.class_weights, data.train)
    smoothing = recipe.label_smoothing
    if recipe.loss == "bce":
        return partial(
            binary, smoothing=smoothing, threshold=recipe.bce_threshold, sum_classes=recipe.bce_sum
        )
    if recipe.loss == "focal":
        return WeightedMean(partial(focal, gamma=recipe.focal_gamma), weights)
    if weights is None:
        return partial(F.cross_entropy, label_smoothing=smoothing)
    return WeightedMean(partial(F.cross_entropy, label_smoothing=smoothing, reduction="none"), weights)


class WeightedMean(nn.Module):
    """Mean loss of a batch, in which each image counts by the weight of its class.

    As with torch's `CrossEntropyLoss(weight=…)`, the sum is divided by that of the weights of the labels;
    with shares of classes as targets, by the number of images. Processes that share a batch divide by the
    mean weight of all its images, so that the mean of their losses is that of the whole batch.

    Args:
        losses: called with logits, targets and weights (K,); returns the weighted loss of each image (N,).
        weights: of the classes (K,); None: all are equal.
    """

    weights: Tensor | None

    def __init__(
        self, losses: Callable[[Tensor, Tensor, Tensor | None], Tensor], weights: Tensor | None
    ) -> None:
        super().__init__()
        self.losses = losses
        self.register_buffer("weights", weights, persistent=False)  # settings, not state

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits (N, K) and labels (N,) or shares (N, K)."""
        weights = None if self.weights is None else self.weights.to(logits.dtype)
        loss = self.losses(logits, targets, weights).mean()
        if weights is None or targets.ndim > 1:
            return loss
        mine = weights[targets].to(torch.promote_types(weights.dtype, torch.float32))
        total = torch.stack([mine.sum(), mine.new_tensor(len(mine))])
        if distributed.is_initialized():
            distributed.all_reduce(total)
        return loss * (total[1] / total[0])


def focal(logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, gamma: float) -> Tensor:
    """Return the focal loss of each image, -(1 - p)^gamma log p of its class (arXiv:1708.02002).

    Args:
        logits: (N, K).
        labels: (N,).
        weights: of the classes (K,), the paper's alpha; None: all 1.
        gamma: 0 is cross-entropy; the larger, the less count images that are classified well.
    """
    log_p = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    # Below the least distance of a float from 1, a power below 1 would have an infinite slope.
    missing = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).eps)
    losses = -(missing**gamma) * log_p
    return losses if weights is None else weights[labels] * losses


def binary(
    logits: Tensor, targets: Tensor, *, smoothing: float, threshold: float | None, sum_classes: bool
) -> Tensor:
    """Return the binary cross-entropy of each class against all others (arXiv:2110.00476).

    Args:
        logits: (N, K), of which each is that of a classifier of its own.
        targets: labels (N,), or shares of the classes in mixed images (N, K).
        smoothing: moves this part of each image's target to all classes alike.
        threshold: shares above it count as 1, all others as 0, so that a mixed image is of both its classes;
            None: shares as they are.
        sum_classes: add the classes' losses up instead of taking their mean.
    """
    classes = logits.shape[1]
    shares = (F.one_hot(targets, classes) if targets.ndim == 1 else targets).to(logits.dtype)
    shares = shares * (1 - smoothing) + smoothing / classes
    if threshold is not None:
        shares = (shares > threshold).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, shares)
    return loss * classes if sum_classes else loss
