"""Weights for val, test and the best checkpoint that differ from those that the training goes on with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from cnnbench.errors import InputError
from cnnbench.settings.run import Settings
from cnnbench.training.averaging import MovingAverage
from cnnbench.training.batch_norm import renew_statistics
from cnnbench.training.classifier import Classifier

TRAINED = "current_model_state"
"""Key of the weights to go on with in a checkpoint, as in Lightning's WeightAveraging."""


class EvaluationWeights(pl.Callback):
    """Base of callbacks that evaluate other weights, with batch statistics of their own.

    At the start of validation the module gets the weights to evaluate, and afterwards, bit for bit, those
    that it had. A checkpoint has both.

    Args:
        note: shows a text in the progress.

    Attributes:
        evaluated: state of the module in the last validation; None: that was the module's own.
    """

    def __init__(self, note: Callable[[str], None] = lambda text: None) -> None:
        self.note = note
        self.evaluated: dict[str, Tensor] | None = None
        self._trained: dict[str, Tensor] | None = None

    def enter(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Give the module the weights to evaluate; return False to evaluate its own; for subclasses."""
        raise NotImplementedError

    def leave(self, trainer: pl.Trainer) -> None:
        """Undo what `enter` did elsewhere than in the module, which gets its state back after this."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exchange the weights, and compute their batch statistics."""
        trained = _copy(pl_module)
        with torch.no_grad():
            if self.enter(trainer, pl_module):
                self._trained = trained
                assert isinstance(pl_module, Classifier)
                renew_statistics(trainer, pl_module, self.note)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Return to the weights of the training."""
        if self._trained is not None:
            self.evaluated = _copy(pl_module)
            self.leave(trainer)
            pl_module.load_state_dict(self._trained)
            self._trained = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exchange the weights for the checkpoint alone, if there are no val images."""
        if sum(trainer.num_val_batches):
            return
        modes = [(module, module.training) for module in pl_module.modules()]
        pl_module.eval()
        self.on_validation_epoch_start(trainer, pl_module)
        self.on_validation_epoch_end(trainer, pl_module)
        for module, training in modes:
            module.training = training

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the evaluated weights where those of a model are looked for, and the others beside them."""
        if self.evaluated is not None:
            checkpoint[TRAINED] = checkpoint["state_dict"]
            checkpoint["state_dict"] = self.evaluated

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore both; Lightning has loaded `state_dict` into the module."""
        if TRAINED in checkpoint:
            self.evaluated = checkpoint["state_dict"]
            pl_module.load_state_dict(checkpoint[TRAINED])


class EqualAverage(EvaluationWeights):
    """Stochastic weight averaging (arXiv:1803.05407): the mean of the weights at the ends of the last epochs.

    Args:
        start: the first epoch whose weights count, from 0; before it, the weights of the training are
            evaluated.
        note: see `EvaluationWeights`.
    """

    def __init__(self, start: int, note: Callable[[str], None] = lambda text: None) -> None:
        super().__init__(note)
        self.start = start

    def enter(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Add the weights of the epoch to the average, and evaluate that."""
        count = trainer.current_epoch - self.start + 1
        if count > 1:
            assert self.evaluated is not None
            for name, weights in pl_module.named_parameters():
                average = self.evaluated[name].to(weights.device)
                weights.copy_(torch.lerp(average, weights, 1 / count))
        return count >= 1


class OptimizerModes(EvaluationWeights):
    """Evaluation of what an optimizer's `eval()` makes of the weights, such as those of schedulefree.

    The step of such an optimizer needs its `train()` before.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the optimizer into train mode; the weights, also of a resumed run, are those of that mode."""
        trained = _copy(pl_module)
        self.leave(trainer)
        pl_module.load_state_dict(trained)

    def enter(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Put the optimizer into eval mode."""
        for optimizer in trainer.optimizers:
            optimizer.eval()  # type: ignore[attr-defined]
        return True

    def leave(self, trainer: pl.Trainer) -> None:
        """Put the optimizer into train mode."""
        for optimizer in trainer.optimizers:
            train_mode(optimizer)


def _copy(module: pl.LightningModule) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def has_modes(optimizer: Optimizer) -> bool:
    """Return whether an optimizer has methods `train` and `eval`: weights of its own for evaluation."""
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def train_mode(optimizer: Optimizer) -> None:
    """Put an optimizer that has modes into train mode."""
    if has_modes(optimizer):
        optimizer.train()  # type: ignore[attr-defined]


def evaluation_weights(
    settings: Settings, classifier: Classifier, note: Callable[[str], None]
) -> list[pl.Callback]:
    """Return the callback that exchanges weights for evaluation, if the recipe has one.

    Args:
        settings: of the run.
        classifier: whose optimizer may have modes.
        note: shows a text in the progress.
    """
    recipe = settings.trainer
    if recipe.ema_decay:
        return [MovingAverage(recipe.ema_decay)]
    if recipe.swa_start is not None:
        return [EqualAverage(recipe.swa_start, note)]
    trial = classifier.make_optimizer([torch.nn.Parameter(torch.zeros(1))])
    return [OptimizerModes(note)] if has_modes(trial) else []


def check_modes(settings: Settings, optimizer: Optimizer) -> None:
    """Check that the recipe fits an optimizer that has modes, which averages the weights by itself.

    Raises:
        InputError: another average of the weights, or a schedule of cnnbench that lowers the rate.
    """
    if not has_modes(optimizer):
        return
    recipe, why = settings.trainer, f"optimizer={settings.optimizer.name}, which averages the weights itself"
    if recipe.ema_decay:
        raise InputError(f"trainer.ema_decay={recipe.ema_decay}: not with {why}; allowed: 0")
    if recipe.swa is not None:
        raise InputError(f"trainer.swa={recipe.swa}: not with {why}; allowed: null")
    target = str(settings.scheduler.target)
    if target.startswith("cnnbench.") and not target.endswith(".constant"):
        raise InputError(
            f"scheduler={settings.scheduler.name}: not with {why}, instead of a schedule; "
            "allowed: constant, perhaps with scheduler.warmup_epochs"
        )
