"""The exported module: the model with normalisation before it and softmax after it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from cnnbench import __version__
from cnnbench.inference.trained_model import CHECKPOINT, Trained

Input = Literal["pixels", "normalised"]
OUTPUTS = ("logits", "probabilities")
"""The module's outputs, (N, K) each, as a plain tuple: torch.export cannot save a named one."""


class Deployed(nn.Module):
    """A trained model from its input to probabilities.

    Args:
        trained: in float32 on the CPU.
        kind: `pixels` takes uint8 (N, colours, size, size) and normalises them; `normalised` takes float32
            (N, C, size, size).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: Trained, kind: Input) -> None:
        super().__init__()
        prepared = trained.preparation
        self.model, self.kind, self.channels = trained.model, kind, prepared.channels
        for name in ("mean", "std"):
            values = torch.tensor(getattr(prepared, name)).view(1, -1, 1, 1) * 255
            self.register_buffer(name, values)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images as in `kind` to logits and probabilities, float32 (N, K)."""
        if self.kind == "pixels":
            images = (images.float() - self.mean) / self.std
            if images.shape[1] != self.channels:
                images = images.expand(-1, self.channels, -1, -1)
        logits = self.model(images)
        return logits, logits.softmax(1)


def fed(trained: Trained, kind: Input, pixels: Tensor) -> Tensor:
    """Return the input of `Deployed` for uint8 (N, colours, size, size) pixels."""
    return pixels if kind == "pixels" else trained.preparation.normalise(pixels)


def metadata(trained: Trained, kind: Input) -> Mapping[str, str]:
    """Build the file's metadata, with which it can be used on its own; lists are JSON."""
    prepared, summary = trained.preparation, trained.run.summary()
    channels = prepared.colours if kind == "pixels" else prepared.channels
    values = {
        "pixels": "uint8, 0 to 255, as in the image; the model normalises them",
        "normalised": "float32: (pixel / 255 - mean) / std for each channel",
    }
    return {
        "classes": json.dumps(prepared.classes),
        "input": kind,
        "input_values": values[kind],
        "input_shape": f"N,{channels},{prepared.size},{prepared.size}",
        "input_layout": "NCHW",
        "colours": "RGB" if prepared.colours == 3 else "grey",
        "mean": json.dumps(prepared.mean),
        "std": json.dumps(prepared.std),
        "resize": prepared.resizing,
        "arch": trained.settings.arch.name,
        "data": trained.settings.data.name,
        "run": trained.run.path.name,
        "checkpoint": CHECKPOINT,
        "val_accuracy": str(summary.get("best/val_acc", "")),
        "test_accuracy": str(summary.get("test/acc", "")),
        "cnnbench": __version__,
        "torch": str(torch.__version__),
    }
