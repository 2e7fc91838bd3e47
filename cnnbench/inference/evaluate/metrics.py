"""Metrics of an evaluation: accuracy with a confidence interval, classes, confusions, calibration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import Tensor

from cnnbench.data.images import Indices
from cnnbench.inference.network import Network
from cnnbench.training.decisions import BINS
from cnnbench.training.metrics import metrics, update

CONFIDENCE = 0.95

METHODS = (
    "macro-F1: mean of the classes that an image has or is predicted as; balanced accuracy: mean recall",
    "interval: 95 % (Wilson), for other images of the same kind; variation between seeds adds to it",
    f"ECE: |accuracy - mean confidence| in {BINS} equal-width bins of the predicted class's probability, "
    "weighted by number of images (arXiv:1706.04599)",
)


@dataclass(frozen=True)
class PerClass:
    """Metrics of one class; None where undefined, as no image has this class or is predicted as it."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    images: int


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation; shares are between 0 and 1.

    Attributes:
        accuracy: share of images whose most probable class is right.
        interval: 95 % confidence interval of the accuracy.
        top5: share of images whose class is among the five most probable.
        loss: mean cross-entropy.
        f1_macro, balanced_acc, ece: see `cnnbench.training.decisions.Decisions`.
        classes: metrics of each class.
        confusion: (K, K), true classes by predicted ones.
        probabilities: (N, K), in the order of the images.
        labels: (N,).
    """

    accuracy: float
    interval: tuple[float, float]
    top5: float
    loss: float
    f1_macro: float
    balanced_acc: float
    ece: float
    classes: list[PerClass]
    confusion: Indices
    probabilities: NDArray[np.float32]
    labels: Indices


def evaluate(network: Network, batches: Iterable[tuple[Tensor, Tensor]]) -> Evaluation:
    """Evaluate a model on batches of uint8 pixels (N, colours, size, size) with labels (N,).

    All but classes and confusions is computed as at the end of a training.
    """
    names = network.preparation.classes
    counts = metrics("", len(names))
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    for pixels, labels in batches:
        logits = network.logits(pixels)
        update(counts, logits, labels)
        outputs.append(logits.softmax(1))
        targets.append(labels)
    values = {key: float(value) for key, value in counts.compute().items()}
    probabilities, labels = torch.cat(outputs), torch.cat(targets)
    y, predicted = labels.numpy(), probabilities.argmax(1).numpy()
    return Evaluation(
        accuracy=values["acc"],
        interval=wilson(int((y == predicted).sum()), len(y)),
        top5=values["top5"],
        loss=values["loss"],
        f1_macro=values["f1_macro"],
        balanced_acc=values["balanced_acc"],
        ece=values["ece"],
        classes=per_class(y, predicted, names),
        confusion=confusion_matrix(y, predicted, labels=np.arange(len(names))),
        probabilities=probabilities.numpy(),
        labels=y,
    )


def wilson(right: int, n: int) -> tuple[float, float]:
    """Compute Wilson's 95 % interval of a share (J. Amer. Statist. Assoc. 22, 1927, p. 209)."""
    from scipy.stats import binomtest

    interval = binomtest(right, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def per_class(labels: Indices, predicted: Indices, names: list[str]) -> list[PerClass]:
    """Compute precision, recall and F1 of each class with scikit-learn."""
    columns: Any = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(names)), zero_division=np.nan
    )
    return [
        PerClass(name, _defined(precision), _defined(recall), _defined(f1), int(images))
        for name, precision, recall, f1, images in zip(names, *columns, strict=True)
    ]


def _defined(share: float) -> float | None:
    return None if np.isnan(share) else float(share)


def confused(evaluation: Evaluation, most: int) -> list[tuple[int, int, int]]:
    """Return up to `most` confusions as (true class, predicted class, images), the most frequent first."""
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(i), int(j), int(wrong[i, j])) for i, j in pairs if wrong[i, j]]
