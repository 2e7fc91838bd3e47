"""What probes of the training share: when they measure, and how they go on after an interruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from cnnbench.run_store.probes import Cell, Table

PROBES = "cnnbench/probes"
"""Key under which a checkpoint has what was measured before it."""


class Series(pl.Callback):
    """Base of probes that measure every so many optimizer steps: the same quantities of the same things.

    What was measured is part of each checkpoint, so that a run which resumes has every measurement once.

    Args:
        every: number of steps.
    """

    name: str
    quantities: tuple[str, ...]
    about = "layer"
    """The column that says what a row is about."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.steps: list[int] = []
        self.things: list[Cell] = []
        self.values: list[Tensor] = []

    def is_due(self, trainer: pl.Trainer) -> bool:
        """Return whether to measure before the next optimizer step; accumulated batches are one step."""
        step = trainer.global_step
        return step % self.every == 0 and self._is_new(step)

    def is_at_end(self, trainer: pl.Trainer) -> bool:
        """Return whether to measure after the epoch that has just ended, which is the last one planned."""
        return trainer.current_epoch + 1 == trainer.max_epochs and self._is_new(trainer.global_step)

    def _is_new(self, step: int) -> bool:
        return not self.steps or self.steps[-1] < step

    def add(self, step: int, measured: Mapping[Any, Sequence[Tensor | float]]) -> None:
        """Add a measurement: by thing, a value of each quantity."""
        self.steps.append(step)
        self.things = list(measured)
        rows = [torch.stack([torch.as_tensor(v).float().cpu() for v in row]) for row in measured.values()]
        self.values.append(torch.stack(rows))

    def table(self) -> Table:
        """Return all measurements."""
        rows: list[list[Cell]] = [
            [step, thing, *numbers]
            for step, values in zip(self.steps, self.values, strict=True)
            for thing, numbers in zip(self.things, values.tolist(), strict=True)
        ]
        return Table(["step", self.about, *self.quantities], rows)

    def figures(self) -> dict[str, Any]:
        """Return what belongs into summary.json."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what a checkpoint has of this probe."""
        self.steps, self.things = list(state["steps"]), list(state["things"])
        self.values = list(state["values"])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what was measured; Lightning's own `state_dict` would warn when the probe is left out later."""
        values: Any = torch.stack(self.values) if self.values else []
        state = {"steps": self.steps, "things": self.things, "values": values}
        checkpoint.setdefault(PROBES, {})[self.name] = state
