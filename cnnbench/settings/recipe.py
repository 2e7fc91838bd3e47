"""`optimizer`, `scheduler` and `trainer`: the training recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cnnbench.settings.base import FREE, Component, Count, FiniteArguments, Fraction, Rate, Section, added


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
    monitor: Annotated[Monitor, added("val/acc")] = "val/acc"
    label_smoothing: Fraction
    mixup: Annotated[float, Field(ge=0)]
    cutmix: Annotated[float, Field(ge=0)]
    ema_decay: Fraction
    clip_norm: Rate | None
    accumulate: Count
    decay_norm_and_bias: bool
    deterministic: bool
    early_stopping: EarlyStopping
    checkpoint_every_n_steps: Annotated[Count | None, FREE]
