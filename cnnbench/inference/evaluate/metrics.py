"""What an evaluation finds out: accuracy with an interval, each class, confusions, calibration."""

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
from cnnbench.inference.trained_model import Trained
from cnnbench.training.metrics import metrics, update

BINS = 15
CONFIDENCE = 0.95

METHODS = (
    "interval: 95 %, Wilson's, about other images of the same kind; other seeds of the training vary besides",
    f"ECE: |accuracy - mean confidence| in {BINS} bins of equal width by the probability of the predicted "
    "class, weighted by their images (arXiv:1706.04599)",
)


@dataclass(frozen=True)
class PerClass:
    """One class; a share is None where nothing tells it (no such image, or none taken for it)."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    images: int


@dataclass(frozen=True)
class Evaluation:
    """What came out, shares between 0 and 1.

    Attributes:
        interval: of the accuracy, 95 %.
        ece: expected calibration error.
        confusion: (K, K), true classes by predicted ones.
        probabilities: (N, K), in the order of the images.
        labels: (N,).
    """

    accuracy: float
    interval: tuple[float, float]
    top5: float
    loss: float
    ece: float
    classes: list[PerClass]
    confusion: Indices
    probabilities: NDArray[np.float32]
    labels: Indices


def evaluate(trained: Trained, batches: Iterable[tuple[Tensor, Tensor]]) -> Evaluation:
    """Run a model over batches of uint8 pixels (N, colours, size, size) with labels (N,).

    Accuracy, top-5 and loss are computed as the test of a training computes them.
    """
    names = trained.preparation.classes
    counts = metrics("", len(names))
    found: list[Tensor] = []
    truth: list[Tensor] = []
    for pixels, labels in batches:
        logits = trained.logits(pixels)
        update(counts, logits, labels)
        found.append(logits.softmax(1))
        truth.append(labels)
    values = {key: float(value) for key, value in counts.compute().items()}
    probabilities, labels = torch.cat(found), torch.cat(truth)
    y, predicted = labels.numpy(), probabilities.argmax(1).numpy()
    return Evaluation(
        accuracy=values["acc"],
        interval=wilson(int((y == predicted).sum()), len(y)),
        top5=values["top5"],
        loss=values["loss"],
        ece=calibration_error(probabilities.numpy(), y),
        classes=per_class(y, predicted, names),
        confusion=confusion_matrix(y, predicted, labels=np.arange(len(names))),
        probabilities=probabilities.numpy(),
        labels=y,
    )


def calibration_error(probabilities: NDArray[np.float32], labels: Indices) -> float:
    """Expected calibration error over bins (0, 1/15], …, (14/15, 1] (arXiv:1706.04599), between 0 and 1.

    torchmetrics 1.9 gives a probability of 1, which float32 has often, a bin of its own.

    Args:
        probabilities: (N, K), in rows that sum to 1.
        labels: (N,).
    """
    confidence = probabilities.max(1).astype(np.float64)
    right = probabilities.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    # Of a bin with n of N images, n / N |accuracy - mean confidence| is the sum of the differences over N.
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Journal of the American Statistical Association 22, 1927, p. 209)."""
    from scipy.stats import binomtest

    found = binomtest(right, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def per_class(labels: Indices, predicted: Indices, names: list[str]) -> list[PerClass]:
    """Precision, recall and F1 of each class, as scikit-learn computes them."""
    columns: Any = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(names)), zero_division=np.nan
    )
    return [
        PerClass(name, _known(precision), _known(recall), _known(f1), int(images))
        for name, precision, recall, f1, images in zip(names, *columns, strict=True)
    ]


def _known(share: float) -> float | None:
    return None if np.isnan(share) else float(share)


def confused(found: Evaluation, most: int) -> list[tuple[int, int, int]]:
    """(true class, taken for, images), what is confused most often first."""
    wrong = found.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(i), int(j), int(wrong[i, j])) for i, j in pairs if wrong[i, j]]
