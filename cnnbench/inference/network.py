"""A network with its weights, ready to be used, wherever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnbench.data.preprocessing import Preparation
from cnnbench.errors import InputError
from cnnbench.training.device import DEVICE_TYPES, autocast


@dataclass(frozen=True, kw_only=True)
class Network(ABC):
    """A network with its weights, ready to be used.

    Attributes:
        model: in eval mode, on its device: normalised (N, C, H, W) -> (N, K) logits.
        preparation: class names, image size, normalisation, and the preprocessing of image files.
        device: accelerator, precision, memory_format and threads that it computes with.
    """

    model: nn.Module
    preparation: Preparation
    device: Mapping[str, Any]

    @property
    @abstractmethod
    def name(self) -> str:
        """Title of its results."""

    @property
    @abstractmethod
    def weights(self) -> str:
        """Description of its weights for the user."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Its origin for files of results: `run`, None without one, and `checkpoint`."""

    @property
    @abstractmethod
    def origin(self) -> str | Path:
        """Its origin for error messages."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the model's input."""
        return self.preparation.channels, self.preparation.size, self.preparation.size

    def inputs(self, pixels: Tensor) -> Tensor:
        """Return the model's input, (N, C, size, size) on its device, of uint8 (N, colours, size, size)."""
        device, dtype = DEVICE_TYPES[self.device["accelerator"]], next(self.model.parameters()).dtype
        return self.preparation.normalise(pixels.to(device)).to(dtype)

    def logits(self, pixels: Tensor) -> Tensor:
        """Compute logits, float32 (N, K) on the CPU, of uint8 (N, colours, size, size) on any device.

        Raises:
            InputError: the logits are not finite, as with weights that are finite but huge.
        """
        with torch.inference_mode(), autocast(self.device):
            logits: Tensor = self.model(self.inputs(pixels)).float().cpu()
        if not logits.isfinite().all():
            raise InputError(f"{self.origin}: its model's outputs are not finite; allowed: other weights")
        return logits
