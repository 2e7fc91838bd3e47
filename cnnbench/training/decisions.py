"""Macro-F1, balanced accuracy and calibration of a classifier, from integer counts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

VALUES = ("f1_macro", "balanced_acc", "ece")
BINS = 15
ONE = 2**36
"""The probability 1 as an integer; float32 probabilities from 2^-13 on are whole multiples of 1/ONE."""


class Decisions(Metric):
    """Macro-F1, balanced accuracy and expected calibration error over all images passed to `update`.

    The sums are of integers, so that they are exact and the same in any order, on any device and over any
    number of processes.

    - `f1_macro`: mean F1 of the classes that an image has or is predicted as, as in scikit-learn.
    - `balanced_acc`: mean recall of the classes that an image has, as in scikit-learn.
    - `ece`: |accuracy - mean confidence| in the bins (0, 1/15], …, (14/15, 1] of the predicted class's
      softmax probability, weighted by number of images (arXiv:1706.04599); NaN if one is not a number.

    Args:
        num_classes: K.
    """

    full_state_update = False
    counts: Tensor
    gaps: Tensor

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(**options)
        self.num_classes = num_classes
        # Images by class: of the class, predicted as it, both.
        self.add_state("counts", torch.zeros(3, num_classes, dtype=torch.long), dist_reduce_fx="sum")
        # Right decisions minus confidences by bin, in 1/ONE; in the last one, of images without a confidence.
        self.add_state("gaps", torch.zeros(BINS + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add images: logits float32 (N, K) and labels (N,)."""
        predicted = logits.argmax(1)
        true, said = (F.one_hot(classes, self.num_classes) for classes in (labels, predicted))
        self.counts += torch.stack([true.sum(0), said.sum(0), (true * said).sum(0)])
        confidence = (logits.softmax(1).amax(1).nan_to_num(2.0) * ONE).long()
        bins = ((confidence * BINS + ONE - 1) // ONE - 1).clamp(0, BINS)
        # Sums of masked rows instead of `index_add_`, which not every device has for integers.
        rows = F.one_hot(bins, BINS + 1) * ((predicted == labels) * ONE - confidence)[:, None]
        self.gaps += rows.sum(0)

    def compute(self) -> dict[str, Tensor]:
        """Return `f1_macro`, `balanced_acc` and `ece` as float32."""
        true, said, both = self.counts.cpu().double()  # not every device has float64
        gaps = self.gaps.cpu().double() / ONE
        values = {
            "f1_macro": (2 * both / (true + said))[true + said > 0].mean(),
            "balanced_acc": (both / true)[true > 0].mean(),
            "ece": gaps.abs().sum() / true.sum() if gaps[BINS] == 0 else torch.tensor(torch.nan),
        }
        return {key: value.float().to(self.counts.device) for key, value in values.items()}
