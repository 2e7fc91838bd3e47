"""Progress of a training in the terminal: one bar over all epochs, with the remaining time."""

from __future__ import annotations

import time
from typing import Any

import lightning.pytorch as pl
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from cnnbench.console import console

REFRESH_S = 0.1
"""Least number of seconds between two updates of the bar."""

LINE_S = 10.0
"""Least number of seconds between two lines where there is no terminal (a log file, CI)."""


class ProgressBar(pl.Callback):
    """Progress bar over all epochs of a run; without a terminal, a line now and then."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bar: Progress | None = None
        self.last_line = self.last_refresh = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar; that of a resumed run does not start at 0."""
        if not trainer.is_global_zero or not console.is_terminal:
            return
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=max(4, min(40, console.width - 76))),  # leaves room for the metrics
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        progress: Any = trainer.fit_loop.epoch_progress.current
        done = progress.processed
        self.bar.add_task(self.name, total=trainer.max_epochs, completed=done, figures="")
        self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """Advance the bar by a batch."""
        now = time.monotonic()
        if self.bar is not None and now - self.last_refresh > REFRESH_S:
            self.last_refresh = now
            share = trainer.fit_loop.batch_idx / max(1, int(trainer.num_training_batches))
            self.bar.update(self.bar.task_ids[0], completed=round(trainer.current_epoch + share, 2))

    def note(self, text: str) -> None:
        """Show what is done between training and validation, in place of the metrics."""
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], figures=text)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch's metrics."""
        if not trainer.is_global_zero:
            return
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        figures = f"val acc {100 * values['val/acc']:.2f} %" if "val/acc" in values else ""
        done = trainer.current_epoch + 1
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=done, figures=figures)
        elif time.monotonic() - self.last_line > LINE_S or done == trainer.max_epochs:
            self.last_line = time.monotonic()
            line = f"{self.name}: epoch {done}/{trainer.max_epochs}{figures and ' · '}{figures}"
            console.print(line, highlight=False)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Remove the bar after an error."""
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
