"""Comparison of an exported file with the model, on test images where they are available."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cnnbench.data import download
from cnnbench.data.prefetch import labelled
from cnnbench.errors import InputError
from cnnbench.inference.evaluate import images
from cnnbench.inference.export.formats import Forward
from cnnbench.inference.export.graph import Input, fed
from cnnbench.inference.trained_model import Trained

BATCHES = (1, 7, 24)
"""Batch sizes of the comparison: a single image, and sizes other than that of the example."""

TOLERANCE = 1e-4
"""Absolute tolerance of an output, and relative tolerance with respect to the largest one."""


class Sample(NamedTuple):
    """uint8 pixels (N, colours, size, size), and a description of their origin."""

    pixels: Tensor
    title: str


@dataclass(frozen=True)
class Difference:
    """The largest difference between file and model at one batch size.

    Attributes:
        batch: batch size.
        logits, probabilities: largest absolute differences.
        greatest: largest absolute logit of the model.
    """

    batch: int
    logits: float
    probabilities: float
    greatest: float

    @property
    def allowed(self) -> float:
        """Largest accepted difference of the logits."""
        return TOLERANCE + TOLERANCE * self.greatest

    @property
    def fine(self) -> bool:
        """True if both differences are within their tolerances; false for NaN."""
        return self.logits <= self.allowed and self.probabilities <= TOLERANCE


def sample(trained: Trained) -> Sample:
    """Return images spread over the run's test split, or random ones where it is not available."""
    count, prepared = sum(BATCHES), trained.preparation
    try:
        with download.without_download():
            chosen = images.choose(trained, "test", {})
        # Of a small split some images are taken more than once.
        indices = np.linspace(0, len(chosen.images.labels) - 1, count).astype(np.int64)
        ((pixels, _),) = labelled(prepared, chosen.images[indices], count, chosen.memory)
        return Sample(pixels, f"{len(np.unique(indices))} test images of {trained.settings.data.name}")
    except InputError as error:
        shape = (count, prepared.colours, prepared.size, prepared.size)
        drawn = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return Sample(drawn, f"{count} RANDOM images: the run's own are not available ({error})")


def differences(trained: Trained, forward: Forward, kind: Input, pixels: Tensor) -> list[Difference]:
    """Compare the file's outputs with those of the checkpoint's model, for each of `BATCHES`.

    Args:
        trained: the model, in float32 on the CPU.
        forward: forward pass of the file.
        kind: input of the file.
        pixels: uint8 (sum of `BATCHES`, colours, size, size).

    Raises:
        Exception: the runtime cannot compute a batch.
    """
    result = []
    for size, batch in zip(BATCHES, torch.split(pixels, list(BATCHES)), strict=True):
        expected = trained.logits(batch)
        logits, probabilities = forward(fed(trained, kind, batch))
        if logits.shape != expected.shape or probabilities.shape != expected.shape:
            raise ValueError(f"logits of shape {tuple(logits.shape)}, expected {tuple(expected.shape)}")
        off = _distance(probabilities, expected.softmax(1))
        result.append(Difference(size, _distance(logits, expected), off, float(expected.abs().max())))
    return result


def _distance(values: Tensor, expected: Tensor) -> float:
    return float((values - expected).abs().max())
