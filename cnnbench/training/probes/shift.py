"""`probes=shift`: internal covariate shift, as in arXiv:1502.03167 and as defined in arXiv:1805.11604."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from cnnbench.training.probes.layers import by_channel, watched_layers, weights_by_layer
from cnnbench.training.probes.loss import Batch, Weights, loss_and_gradient, norm, weights_of
from cnnbench.training.probes.series import Series
from cnnbench.training.probes.undisturbed import model_of, undisturbed

PERCENTILES = (0.15, 0.5, 0.85)
"""Those of arXiv:1502.03167, figure 1."""

Entering = dict[str, Tensor]
"""What each layer sends into its activation, by layer: (C, N x pixels)."""


class Shift(Series):
    """What one optimizer step does to each layer by changing the layers before it.

    p15, p50, p85: percentiles of what one unit, the middle channel, sends into its activation before it.
    moved: how far the step moves what the layer sends into its activation: for each channel the distance
    sqrt((difference of means)² + (difference of deviations)²), the Wasserstein distance of two normal
    distributions, in deviations; the mean over channels.
    gradient_change: |G' - G| / |G|; cosine: of the angle between G and G'. G is the gradient of the layer's
    weights before the step, and G' the one on the same batch, if all layers before it have made the step
    and the others have not (arXiv:1805.11604, definition 2.1, where the length is not divided by |G|).

    Args:
        every: see `Series`.
        images: (N, C, H, W), always the same, on which distributions are measured.
        layers: number of layers whose gradients are compared, evenly spaced; never the first, which has none
            before it.
    """

    name = "shift"
    quantities = ("p15", "p50", "p85", "moved", "gradient", "gradient_change", "cosine")

    def __init__(self, every: int, images: Tensor, layers: int) -> None:
        super().__init__(every)
        self.images, self.layers = images, layers
        self.before: tuple[int, Batch, Weights, Entering] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the state before a step that is measured."""
        if self.before is None and self.is_due(trainer):
            entering = self._entering(trainer, pl_module)
            self.before = trainer.global_step, (batch[0], batch[1]), weights_of(pl_module), entering

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure after the step."""
        if self.before is None or trainer.global_step == self.before[0]:
            return
        step, kept, weights, entering = self.before
        self.before = None
        after = self._entering(trainer, pl_module)
        chosen = chosen_layers(list(entering), self.layers)
        with undisturbed(trainer, pl_module):
            changes = gradient_changes(pl_module, weights, weights_of(pl_module), chosen, kept)
        nothing: list[Tensor | float] = [math.nan] * 3
        self.add(
            step,
            {
                name: [*_percentiles(x), moved(x, after[name]), *changes.get(name, nothing)]
                for name, x in entering.items()
            },
        )

    def _entering(self, trainer: pl.Trainer, module: pl.LightningModule) -> Entering:
        self.images = self.images.to(module.device)
        found: Entering = {}

        def see(name: str, entering: Tensor, activation: nn.Module | None) -> None:
            found[name] = by_channel(entering).clone()

        with torch.no_grad(), undisturbed(trainer, module), watched_layers(model_of(module), see):
            module(self.images)
        return found


def chosen_layers(names: Sequence[str], count: int) -> list[str]:
    """Return so many evenly spaced names, without the first and with the last, in their order."""
    others = names[1:]
    if not others:
        return []
    places = torch.linspace(len(others) - 1, 0, min(count, len(others))).round().long().tolist()
    return [others[i] for i in sorted(set(places))]


def _percentiles(x: Tensor) -> list[Tensor]:
    quantiles = torch.tensor(PERCENTILES, device=x.device)
    values = x[len(x) // 2]
    return list(values.sort().values[(quantiles * (len(values) - 1)).round().long()])


def moved(before: Tensor, after: Tensor) -> Tensor:
    """Return the mean distance between two distributions of each channel, (C, samples), in deviations."""
    deviation, mean = torch.std_mean(before, 1, correction=0)
    later_deviation, later_mean = torch.std_mean(after, 1, correction=0)
    distance = torch.hypot(later_mean - mean, later_deviation - deviation)
    alive = deviation > 0
    return (distance[alive] / deviation[alive]).mean()


def gradient_changes(
    module: pl.LightningModule, before: Weights, after: Weights, layers: Sequence[str], batch: Batch
) -> Mapping[str, list[Tensor | float]]:
    """Return |G|, |G' - G| / |G| and the cosine between both for each of some layers; see `Shift`.

    Args:
        module: the classifier, within `undisturbed`.
        before, after: parameters before and after a step.
        layers: their names.
        batch: the one that the step was made on.
    """
    own = {name: f"{name}.weight" if name else "weight" for name in weights_by_layer(model_of(module))}
    _, gradients = loss_and_gradient(module, before, [own[name] for name in layers], batch)
    earlier = parameters_before(module, batch[0][:2], layers)
    changes: dict[str, list[Tensor | float]] = {}
    for name, old in zip(layers, gradients, strict=True):
        mixed = {key: after[key] if key in earlier[name] else value for key, value in before.items()}
        _, (new,) = loss_and_gradient(module, mixed, [own[name]], batch)
        size = norm([old])
        cosine = (old.float() * new.float()).sum() / (size * norm([new]))
        changes[name] = [size, norm([new - old]) / size, cosine]
    return changes


def parameters_before(
    module: pl.LightningModule, images: Tensor, layers: Sequence[str]
) -> dict[str, set[str]]:
    """Return, for each of some layers, the names of the parameters that are used before it."""
    model = model_of(module)
    used: list[str] = []
    found: dict[str, set[str]] = {}
    names = {child: name for name, child in model.named_modules()}
    of_layers = {model.get_submodule(name) for name in layers}

    def before(child: nn.Module, inputs: tuple[Any, ...]) -> None:
        if child in of_layers:
            found.setdefault(names[child], set(used))
        prefix = f"{names[child]}." if names[child] else ""
        used.extend(f"{prefix}{name}" for name, _ in child.named_parameters(recurse=False))

    hooks = [child.register_forward_pre_hook(before) for child in model.modules()]
    try:
        with torch.no_grad():
            model(images.to(module.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return found
