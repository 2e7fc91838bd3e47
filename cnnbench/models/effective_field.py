"""Effective receptive fields: which pixels of its receptive field a unit depends on (arXiv:1701.04128).

The receptive field says from where a unit can be reached at all. How much a pixel counts is the gradient of
the unit with respect to it, which in a deep network is a small bell in the middle of a large square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnnbench.models.complexity import in_mode, watched

VISIBLE = 1 - 0.9545
"""Share of the largest gradient from which a pixel counts, as in arXiv:1701.04128; in a Gaussian it counts
within 2.49 standard deviations."""


@dataclass(frozen=True)
class EffectiveField:
    """The effective receptive field of the centre unit of a feature map.

    Attributes:
        layer: name of the module that returns the map.
        units: rows and columns of the map.
        picture: (H, W) float64, what each pixel of the image counts; the sum is 1, or 0 if nothing counts.
    """

    layer: str
    units: tuple[int, int]
    picture: Tensor

    @property
    def size(self) -> float:
        """Side in pixels of a square with as many pixels as the visible ones, as in arXiv:1701.04128."""
        peak = float(self.picture.max())
        return math.sqrt(int((self.picture > VISIBLE * peak).sum())) if peak > 0 else 0.0

    @property
    def deviations(self) -> tuple[float, float]:
        """Standard deviations of the picture in pixels, over rows and over columns; nan if nothing counts."""
        rows, columns = self.picture.sum(1), self.picture.sum(0)
        return _deviation(rows), _deviation(columns)


def _deviation(profile: Tensor) -> float:
    total = float(profile.sum())
    if total == 0:
        return math.nan
    places = torch.arange(len(profile), dtype=profile.dtype)
    mean = float((profile * places).sum()) / total
    return math.sqrt(float((profile * (places - mean) ** 2).sum()) / total)


def effective_field(model: nn.Module, images: Tensor, layer: str | None = None) -> EffectiveField | None:
    """Return the effective receptive field of a map's centre unit, in eval mode.

    It is the mean over images and their channels of the gradient's absolute value, of the sum of the unit's
    channels. The model is left as it was, gradients of its parameters included.

    Args:
        model: any classifier.
        images: (N, C, H, W), as the model takes them.
        layer: name of a module that returns a map; None: the last map of more than one unit.

    Returns:
        None if there is no such map.
    """
    images = images.detach().clone().requires_grad_()
    maps: dict[str, Tensor] = {}

    def see(name: str, output: Tensor) -> None:
        wanted = layer is None or name == layer
        if name and wanted and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            maps.pop(name, None)  # the last call counts
            maps[name] = output

    with in_mode(model, training=False), torch.enable_grad(), watched(model, see):
        model(images)
    if not maps:
        return None
    name, output = next(reversed(maps.items()))
    rows, columns = output.shape[2:]
    unit = output[:, :, rows // 2, columns // 2].float().sum()
    (gradient,) = torch.autograd.grad(unit, images, allow_unused=True)
    gradient = torch.zeros_like(images) if gradient is None else gradient
    picture = gradient.abs().double().mean((0, 1)).cpu()
    total = picture.sum()
    return EffectiveField(name, (rows, columns), picture / total if total > 0 else picture)
