"""Learning rate schedules, stepped after each optimizer step.

A schedule is a function of the optimizer, `total_steps` and `steps_per_epoch` that returns a torch
`LRScheduler`. If that has a method `observe(value)`, it is called after each epoch with the validation loss,
or with the metric that its attribute `monitor` names, such as `val/acc`. All but `onecycle` accept
`warmup_epochs`: epochs, or a fraction of one, of linear warm-up from 0 (arXiv:1706.02677).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from cnnbench.settings.recipe import Monitor
from cnnbench.training.monitor import sign


def _scaled(
    optimizer: Optimizer,
    factor: Callable[[float], float],
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
) -> LambdaLR:
    """Return lr x `factor(completed share of the steps after the warm-up)`, after a linear warm-up."""
    warmup = round(warmup_epochs * steps_per_epoch)

    def at(step: int) -> float:
        if step < warmup:
            return _warm(step, warmup)
        return factor(min(1.0, (step - warmup) / max(1, total_steps - warmup)))

    return LambdaLR(optimizer, at)


def _warm(step: int, warmup: int) -> float:
    """Return the factor of the learning rate at a step of a linear warm-up, which does not start at zero."""
    return min(1.0, (step + 1) / (warmup + 1))


def constant(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float
) -> LRScheduler:
    """Return a constant learning rate."""
    return _scaled(optimizer, lambda _: 1.0, total_steps, steps_per_epoch, warmup_epochs)


def cosine(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    floor: float,
    until: float = 1.0,
) -> LRScheduler:
    """Return half a cosine from lr to lr x `floor` (arXiv:1608.03983, without restarts), constant after it.

    It ends after the share `until` of the training, which includes the warm-up.

    Raises:
        ValueError: `until` outside (0, 1], or not after the warm-up.
    """
    steps = round(until * total_steps)
    if not 0 < until <= 1 or steps <= round(warmup_epochs * steps_per_epoch):
        raise ValueError(f"until={until}: allowed: a share of the training after the warm-up, at most 1")

    def factor(done: float) -> float:
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return _scaled(optimizer, factor, steps, steps_per_epoch, warmup_epochs)


def step(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    milestones: Sequence[float],
    gamma: float,
) -> LRScheduler:
    """Return a schedule that multiplies lr by `gamma` at each milestone, a share of the training in (0, 1).

    Milestones count from the start of the training, the warm-up included (arXiv:1706.02677).

    Raises:
        ValueError: a milestone outside (0, 1).
    """
    if not all(0 < at < 1 for at in milestones):
        raise ValueError(f"milestones={list(milestones)}: allowed: shares of the training, between 0 and 1")

    warmup = round(warmup_epochs * steps_per_epoch)

    def at(step: int) -> float:
        return _warm(step, warmup) * gamma ** sum(step >= share * total_steps for share in milestones)

    return LambdaLR(optimizer, at)


def onecycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    pct_start: float,
    div_factor: float,
    final_div_factor: float,
) -> LRScheduler:
    """Return torch's `OneCycleLR` with the optimizer's lr as its maximum (arXiv:1708.07120).

    The momentum stays constant: the speed-up comes from the cycle of the learning rate.

    Raises:
        ValueError: `pct_start` outside (0, 1).
    """
    if not 0 < pct_start < 1:
        raise ValueError(f"pct_start={pct_start}: allowed: between 0 and 1")
    return OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=max(2, total_steps),
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum=False,
    )


class Plateau(LRScheduler):
    """Schedule that multiplies lr by `factor` if a metric has not improved for more than `patience` epochs.

    torch's ReduceLROnPlateau has no warm-up, and Lightning steps it after it has written the checkpoint of
    the epoch, so that a resumed run would miss one step.

    Args:
        optimizer: whose learning rate is set.
        warmup_steps: optimizer steps of linear warm-up.
        factor: of each reduction, in (0, 1).
        patience: epochs without improvement that are tolerated.
        threshold: least relative change of the metric that counts as an improvement.
        monitor: the metric.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int,
        factor: float,
        patience: int,
        threshold: float,
        monitor: str,
    ) -> None:
        self.warmup_steps, self.factor, self.patience = warmup_steps, factor, patience
        self.threshold, self.monitor, self.sign = threshold, monitor, sign(monitor)
        self.best, self.epochs_without, self.reduction = -self.sign * math.inf, 0, 1.0
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each parameter group at the current step."""
        warm = _warm(self.last_epoch, self.warmup_steps)
        return [base * warm * self.reduction for base in self.base_lrs]

    def observe(self, value: float) -> None:
        """Update the learning rate, from the next step on, with the metric of an epoch."""
        if self.sign * value > self.sign * self.best * (1 + self.sign * self.threshold):
            self.best, self.epochs_without = value, 0
            return
        self.epochs_without += 1
        if self.epochs_without > self.patience:
            self.reduction *= self.factor
            self.epochs_without = 0
            self._last_lr = self.get_lr()
            for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
                group["lr"] = lr


def plateau(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    factor: float,
    patience: int,
    threshold: float,
    monitor: Monitor = "val/loss",
) -> LRScheduler:
    """Return a schedule that reduces lr when a metric of val stops improving; see `Plateau`.

    Raises:
        ValueError: `factor` outside (0, 1).
    """
    if not 0 < factor < 1:
        raise ValueError(f"factor={factor}: allowed: between 0 and 1")
    return Plateau(optimizer, round(warmup_epochs * steps_per_epoch), factor, patience, threshold, monitor)
