"""`optimizer`, `scheduler` and `trainer`: the training recipe."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cnnbench.run_store.swa import first_averaged
from cnnbench.settings.base import (
    FREE,
    Component,
    Count,
    FiniteArguments,
    Fraction,
    Rate,
    Section,
    added,
    shown,
)


class Optimizer(Component):
    """`optimizer`: a `torch.optim` class, or one of the user's own, and its arguments."""

    __pydantic_extra__: FiniteArguments

    lr: Rate
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


Monitor = Literal["val/acc", "val/loss", "val/f1_macro", "val/balanced_acc", "val/ece"]
"""Metrics by which epochs are compared."""


class Scheduler(Component):
    """`scheduler`: a factory of `cnnbench.training.schedule`, or one of the user's own."""

    __pydantic_extra__: FiniteArguments

    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


class EarlyStopping(Section):
    """`trainer.early_stopping`: stop after `patience` epochs without a better epoch; null: never."""

    patience: Count | None


class Trainer(Section):
    """`trainer`: the training recipe except optimizer and schedule."""

    max_epochs: Count
    max_time: Annotated[Rate | None, added(None)] = None
    monitor: Annotated[Monitor, added("val/acc")] = "val/acc"
    loss: Annotated[Literal["cross_entropy", "focal", "bce"], added("cross_entropy")] = "cross_entropy"
    focal_gamma: Annotated[float, Field(ge=0, le=100), added(2.0)] = 2.0
    bce_threshold: Annotated[Fraction | None, added(None)] = None
    bce_sum: Annotated[bool, added(False)] = False
    label_smoothing: Fraction
    mixup: Annotated[float, Field(ge=0)]
    cutmix: Annotated[float, Field(ge=0)]
    ema_decay: Fraction
    swa: Annotated[float | None, Field(gt=0, lt=1), added(None)] = None
    clip_norm: Rate | None
    accumulate: Count
    decay_norm_and_bias: bool
    deterministic: bool
    early_stopping: EarlyStopping
    checkpoint_every_n_steps: Annotated[Count | None, FREE]

    @field_validator("max_time", mode="before")
    @classmethod
    def _minutes(cls, value: Any) -> Any:
        """Return minutes, also for a duration as `H:MM:SS`."""
        if isinstance(value, str) and (parts := re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", value)):
            hours, minutes, seconds = map(int, parts.groups())
            value = 60 * hours + minutes + seconds / 60
        if value is not None and (type(value) not in (int, float) or not 0 < value <= 1e9):
            raise ValueError("allowed: null, minutes (more than 0), or H:MM:SS")
        return value

    @property
    def swa_start(self) -> int | None:
        """First epoch, from 0, whose weights are averaged by `swa`: the first that begins after its share."""
        return None if self.swa is None else first_averaged(self.swa, self.max_epochs)

    @model_validator(mode="after")
    def _swa_averages(self) -> Trainer:
        """Refuse two averages of the weights, and one over fewer than two epochs."""
        if self.swa is None:
            return self
        if self.ema_decay:
            raise ValueError(f"swa={self.swa}: not with trainer.ema_decay={self.ema_decay}; allowed: null")
        if self.swa_start is not None and self.swa_start > self.max_epochs - 2:
            most = (self.max_epochs - 2) / self.max_epochs
            raise ValueError(
                f"swa={self.swa}: fewer than two of trainer.max_epochs={self.max_epochs} epochs follow; "
                + (f"allowed: {math.floor(1000 * most) / 1000:g} at most" if most > 0 else "allowed: null")
            )
        return self

    @model_validator(mode="after")
    def _loss_has_what_is_set(self) -> Trainer:
        """Refuse what the loss has no meaning for, or would ignore."""
        given = self.model_dump()
        for loss, key, off in (
            ("focal", "focal_gamma", 2.0),
            ("bce", "bce_threshold", None),
            ("bce", "bce_sum", False),
        ):
            value = given.get(key, off)
            if value != off and self.loss != loss:
                raise ValueError(
                    f"{key}={shown(value)}: only with trainer.loss={loss}; allowed: {shown(off)}"
                )
        for key in ("label_smoothing", "mixup", "cutmix"):  # the loss is defined for one class per image
            if self.loss == "focal" and given[key]:
                raise ValueError(f"{key}={given[key]}: not with trainer.loss=focal; allowed: 0")
        if self.bce_threshold is not None and not (self.mixup or self.cutmix):
            raise ValueError(
                f"bce_threshold={self.bce_threshold}: only with trainer.mixup or trainer.cutmix, "
                "without which no target is between 0 and 1; allowed: null"
            )
        if self.bce_threshold is not None and self.label_smoothing:  # which would undo it
            raise ValueError(
                f"label_smoothing={self.label_smoothing}: not with trainer.bce_threshold; allowed: 0"
            )
        return self
