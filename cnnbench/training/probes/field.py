"""`probes=field`: the effective receptive field before and after the training."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from cnnbench.models.effective_field import EffectiveField, effective_field
from cnnbench.run_store.probes import Table
from cnnbench.training.probes.undisturbed import model_of


class Field(pl.Callback):
    """Effective receptive field (arXiv:1701.04128) of the centre of the last map of more than one unit.

    Args:
        start: that of the initial weights.
        images: (N, C, H, W), over which the field is averaged.
    """

    name = "field"

    def __init__(self, start: EffectiveField, images: Tensor) -> None:
        self.start, self.end, self.images = start, start, images

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure that of the weights which are tested."""
        with torch.inference_mode(False), torch.enable_grad():
            images = self.images.to(pl_module.device)
            end = effective_field(model_of(pl_module), images, self.start.layer)
        assert end is not None
        self.end = end

    def table(self) -> Table:
        """Return a row for each pixel of the picture, which adds up to 1."""
        h, w = self.start.picture.shape
        start, end = self.start.picture.tolist(), self.end.picture.tolist()
        rows = [[i, j, start[i][j], end[i][j]] for i in range(h) for j in range(w)]
        return Table(["row", "column", "start", "end"], rows)

    def figures(self) -> dict[str, Any]:
        """Return the sizes in pixels, and the layer whose centre it is."""
        return {"field/start": self.start.size, "field/end": self.end.size, "field/layer": self.start.layer}
