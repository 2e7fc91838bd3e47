"""Whether a written file computes what the model does, on real images if they are to be had."""

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
from cnnbench.inference.export.formats import Run
from cnnbench.inference.export.graph import Input, fed
from cnnbench.inference.trained_model import Trained

BATCHES = (1, 7, 24)
"""Images at a time: one alone, and numbers that the file was not made with."""

TOLERANCE = 1e-4
"""How far an output may be off: so much, and so much of the greatest output besides."""


class Sample(NamedTuple):
    """uint8 pixels (N, colours, size, size), and where they come from."""

    pixels: Tensor
    title: str


@dataclass(frozen=True)
class Difference:
    """The greatest difference found for batches of one size, and what is allowed."""

    batch: int
    logits: float
    probabilities: float
    greatest: float

    @property
    def allowed(self) -> float:
        """Of the logits."""
        return TOLERANCE + TOLERANCE * self.greatest

    @property
    def fine(self) -> bool:
        """Also false for what is not a number."""
        return self.logits <= self.allowed and self.probabilities <= TOLERANCE


def sample(trained: Trained) -> Sample:
    """Images of the run's own test set, spread over it; where it cannot be had, random ones."""
    count, prepared = sum(BATCHES), trained.preparation
    try:
        with download.without_download():
            chosen = images.choose(trained, "test", {})
        indices = np.linspace(0, len(chosen.images.labels) - 1, count).astype(np.int64)  # again, of a few
        ((pixels, _),) = labelled(prepared, chosen.images[indices], count)
        return Sample(pixels, f"{len(np.unique(indices))} test images of {trained.asked.data.name}")
    except InputError as error:
        shape = (count, prepared.colours, prepared.size, prepared.size)
        drawn = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        return Sample(drawn, f"{count} RANDOM images: the run's own cannot be had ({error})")


def differences(trained: Trained, run: Run, kind: Input, pixels: Tensor) -> list[Difference]:
    """How far the file's outputs are from those of the checkpoint's model, for each size of batch.

    Raises:
        Exception: of the runtime, for a batch that it cannot compute.
    """
    found = []
    for batch, part in zip(BATCHES, torch.split(pixels, list(BATCHES)), strict=True):
        expected = trained.logits(part)
        logits, probabilities = run(fed(trained, kind, part))
        if logits.shape != expected.shape or probabilities.shape != expected.shape:
            raise ValueError(f"gives {tuple(logits.shape)} for {tuple(expected.shape)}")
        off = _far(probabilities, expected.softmax(1))
        found.append(Difference(batch, _far(logits, expected), off, float(expected.abs().max())))
    return found


def _far(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())
