"""`probes=translation`: the finished network on shifted test images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from cnnbench.run_store.probes import Table
from cnnbench.training.classifier import Classifier

DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))
"""Rows and columns; each image is shifted in the next one of them."""


class Translation(pl.Callback):
    """Accuracy on shifted test images, and consistency (arXiv:1904.11486).

    Consistency is the share of images that get the same class as when they are not shifted. The pixels that a
    shift leaves free repeat the edge: for images on a plain background that is exactly a shift, and in others
    it adds no edge.

    Args:
        pixels: shifts.
    """

    name = "translation"

    def __init__(self, pixels: Sequence[int]) -> None:
        self.pixels = list(pixels)
        self.images = 0
        self.right = dict.fromkeys((0, *self.pixels), 0)
        self.same = dict.fromkeys((0, *self.pixels), 0)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Classify the images of a batch again, shifted."""
        images, labels = batch
        straight = _probabilities(pl_module).argmax(1).to(labels.device)
        which = torch.arange(self.images, self.images + len(labels), device=images.device) % len(DIRECTIONS)
        for pixels in (0, *self.pixels):
            predicted = straight
            if pixels:
                with trainer.precision_plugin.forward_context():
                    predicted = pl_module(shifted(images, which, pixels)).float().argmax(1)
            self.right[pixels] += int((predicted == labels).sum())
            self.same[pixels] += int((predicted == straight).sum())
        self.images += len(labels)

    def table(self) -> Table:
        """Return a row for each shift; the first is without one."""
        rows = [[p, self.right[p] / self.images, self.same[p] / self.images] for p in (0, *self.pixels)]
        return Table(["pixels", "acc", "consistency"], rows)

    def figures(self) -> dict[str, Any]:
        """Return both for each shift."""
        figures = {}
        for pixels in self.pixels:
            figures[f"translation/acc_{pixels}"] = self.right[pixels] / self.images
            figures[f"translation/consistency_{pixels}"] = self.same[pixels] / self.images
        return figures


def _probabilities(module: pl.LightningModule) -> Tensor:
    """Return what the classifier has just answered."""
    assert isinstance(module, Classifier)
    return module.test_outputs[-1][0]


def shifted(images: Tensor, which: Tensor, pixels: int) -> Tensor:
    """Shift images (N, C, H, W), each in the direction of its number in `which` (N,); edges are repeated."""
    padded, (h, w) = F.pad(images, [pixels] * 4, mode="replicate"), images.shape[2:]
    result = images
    for number, (rows, columns) in enumerate(DIRECTIONS):
        top, left = pixels * (1 - rows), pixels * (1 - columns)
        moved = padded[:, :, top : top + h, left : left + w]
        result = torch.where((which == number)[:, None, None, None], moved, result)
    return result
