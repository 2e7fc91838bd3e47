"""Callback that records a training: a row of metrics.csv and checkpoints after each epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from torch.optim import Optimizer

from cnnbench.errors import Diverged
from cnnbench.processes.signals import unbroken
from cnnbench.run_store.run import Run
from cnnbench.settings.recipe import Trainer
from cnnbench.training.checkpoints import BEST, LAST, PREVIOUS, PREVIOUS_BEST, RECORD
from cnnbench.training.decisions import VALUES
from cnnbench.training.device import synchronise
from cnnbench.training.monitor import Row, best_row, is_validated, stops_early

CHECK_EVERY = 50
"""Batches between two checks of the loss; each check makes a GPU wait."""

TRAIN = ("train/loss", "train/acc")
VAL = tuple(f"val/{key}" for key in ("loss", "acc", "top5", *VALUES))
"""Metrics in each row; those of val unless there are no val images."""


class Recorder(Checkpoint):
    """Writer of one row per epoch, and of the checkpoints from which a killed run resumes.

    Lightning calls this callback after all others, so that a checkpoint includes their state. The row is
    written before the checkpoint: rows beyond a checkpoint are dropped when the run resumes from it.

    Args:
        run: the run's folder.
        rows: the epochs that an earlier attempt completed.
        recipe: says which epoch is the best, when the training stops early, and how often a checkpoint is
            written within an epoch.
        check: called before each write; an exception ends the training.
        on_row: called with each new row.
        writes: False in all processes but the first.
    """

    def __init__(
        self,
        run: Run,
        rows: Sequence[Row],
        recipe: Trainer,
        *,
        check: Callable[[], None] = lambda: None,
        on_row: Callable[[Row], None] = lambda row: None,
        writes: bool = True,
    ) -> None:
        self.run, self.rows, self.check, self.on_row = run, list(rows), check, on_row
        self.writes = writes
        self.recipe = recipe
        self.saved_step = 0
        self.epoch_start = self.train_s = self.lr = 0.0
        self.images = 0

    @property
    def best(self) -> Row:
        """Row of the best epoch so far."""
        return best_row(self.rows, self.recipe.monitor)

    @property
    def stops(self) -> bool:
        """True if the epochs so far do not improve any more, or have taken all the time."""
        recipe = self.recipe
        return self._out_of_time or stops_early(self.rows, recipe.monitor, recipe.early_stopping.patience)

    @property
    def _out_of_time(self) -> bool:
        """True if the epochs, those of earlier attempts included, have taken `trainer.max_time` minutes."""
        if self.recipe.max_time is None:
            return False
        return sum(row["time/epoch_s"] for row in self.rows) >= 60 * self.recipe.max_time

    @property
    def facts(self) -> dict[str, str]:
        """For summary.json: why the training ended before its last epoch, if the reason was no result."""
        early = len(self.rows) < self.recipe.max_epochs and self._out_of_time
        return {"stopped": "trainer.max_time"} if early else {}

    # --- timing: training time excludes evaluation ----------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, also if the run resumes within an epoch."""
        self.saved_step = trainer.global_step
        self._start_clock()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch."""
        self._start_clock()

    def _start_clock(self) -> None:
        self.epoch_start, self.train_s, self.images = time.perf_counter(), 0.0, 0

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock: what follows is evaluation."""
        if trainer.state.fn == "fit":
            self._stop_clock(pl_module)

    def _stop_clock(self, pl_module: pl.LightningModule) -> None:
        synchronise(pl_module.device)
        self.train_s = time.perf_counter() - self.epoch_start

    # --- within an epoch ------------------------------------------------------------------------

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Note the learning rate of the step: afterwards the schedule has set that of the next one."""
        self.lr = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check the loss every `CHECK_EVERY` batches, and save a checkpoint every so many steps.

        Raises:
            Diverged: the loss is not finite.
        """
        self.images += trainer.datamodule.total(batch_idx)  # type: ignore[attr-defined]
        if batch_idx % CHECK_EVERY == 0:
            loss = trainer.strategy.reduce(outputs["loss"].detach(), reduce_op="mean")
            if not math.isfinite(float(loss)):
                raise Diverged(trainer.current_epoch, "train/loss")
        step = trainer.global_step
        is_last = batch_idx + 1 >= trainer.num_training_batches  # the epoch's own checkpoint follows
        every_n_steps = self.recipe.checkpoint_every_n_steps
        if every_n_steps and step - self.saved_step >= every_n_steps and not is_last:
            self.saved_step = step
            self._save(trainer, best=False)

    # --- at the end of an epoch -----------------------------------------------------------------------------

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row, then the checkpoints; stop the training if it `stops`.

        Raises:
            Diverged: a loss of the epoch is not finite.
        """
        validated = bool(sum(trainer.num_val_batches))
        if not validated:
            self._stop_clock(pl_module)
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            **{key: values[key] for key in (*TRAIN, *(VAL if validated else ()))},
            "lr": self.lr,
            "time/epoch_s": time.perf_counter() - self.epoch_start,
            "time/train_s": self.train_s,
            "time/images": self.images,
        }
        if self.rows:  # a run that an older version began keeps the columns of its table
            row = {key: row[key] for key in self.rows[0]}
        self.check()
        with unbroken():  # an epoch that was logged must not be trained again
            self.rows.append(row)
            if self.writes:
                self.run.write_rows(self.rows)
                self.on_row(row)
            for key in ("train/loss", "val/loss") if is_validated(row) else ("train/loss",):
                if not math.isfinite(row[key]):
                    raise Diverged(trainer.current_epoch, key)
            self.saved_step = trainer.global_step
            self._save(trainer, best=self.best is row)
        if trainer.strategy.broadcast(self.stops):  # the clocks of several processes differ
            trainer.should_stop = True

    def _save(self, trainer: pl.Trainer, *, best: bool) -> None:
        """Write a checkpoint, then move it into place: at any moment one pair of files is complete."""
        self.check()
        files, folder = self.run.files, self.run.checkpoints
        new = files.partial(folder / "new.ckpt")
        trainer.save_checkpoint(new)  # in all processes: each may add to it
        if not self.writes:
            return
        for previous, current in ((PREVIOUS_BEST, BEST), (PREVIOUS, LAST)):
            if (folder / current).exists():
                files.link(folder / previous, folder / current)
        if best:
            files.link(folder / BEST, new)
        files.move(new, folder / LAST)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the rows, so that what was measured is as safe from damage as the weights."""
        checkpoint[RECORD] = {"run": self.run.identity, "rows": self.rows}
