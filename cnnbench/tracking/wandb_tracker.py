"""Tracker for Weights & Biases: one W&B run for each run of cnnbench, online or offline."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cnnbench.models.family import family
from cnnbench.run_store.probes import Table
from cnnbench.run_store.run import Run
from cnnbench.settings.logger import WandbLogger
from cnnbench.settings.run import Settings
from cnnbench.tracking import wandb_end, wandb_run
from cnnbench.tracking.base import NO_PROBES, STEPS, End, Row, TestResult, step_of
from cnnbench.tracking.probe_charts import probe_charts


def under_agent() -> bool:
    """Return whether the agent of a W&B sweep started this process, for one run of that sweep."""
    return bool(os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID"))


class WandbTracker:
    """The W&B run of one attempt.

    Its id is derived from the run, so that all attempts belong to one W&B run. W&B cannot append to an
    offline log: a later attempt logs all epochs again and replaces the earlier attempt's files.
    """

    def __init__(self, logger: WandbLogger, settings: Settings, run: Run, repeats: int) -> None:
        self.logger, self.settings = logger, settings
        self.folder = run.path
        self.id = hashlib.sha256(f"{settings.name}/{run.path.name}/{repeats}".encode()).hexdigest()[:16]
        if under_agent():
            self.id = os.environ["WANDB_RUN_ID"]
        (self.folder / "wandb").mkdir(exist_ok=True)
        self.rows: list[Row] = []
        self.final: tuple[Mapping[str, Any], TestResult | None, Mapping[str, Table]] | None = None
        """Arguments of `finish`."""
        self.complete = True
        """False once something could not be logged online."""
        self.run = self._start(logger.mode)

    def _start(self, mode: wandb_run.Mode) -> Any:
        settings, logger = self.settings, self.logger
        run = wandb_run.start(
            self.folder,
            mode,
            logger.init_timeout_s,
            logger.finish_timeout_s,
            # The agent of a W&B sweep sets the sweep's project and entity in the environment.
            project=None if under_agent() else logger.project,
            entity=None if under_agent() else logger.entity,
            job_type=settings.verb,
            resume="allow" if mode == "online" else None,
            id=self.id,
            name=self.folder.name,
            group=settings.name,
            config=settings.choice() | {"family": family(settings.arch.name), "run": self.folder.name},
            tags=[
                f"arch:{settings.arch.name}",
                f"data:{settings.data.name}",
                *(f"{axis}:{value}" for axis, value in settings.resolved_ops().items()),
                f"optimizer:{settings.optimizer.name}",
                *logger.tags,
            ],
        )
        step = STEPS[settings.verb]
        run.define_metric(step, hidden=True)
        run.define_metric("*", step_metric=step)
        if settings.verb == "train":
            for key in ("acc", "f1_macro", "balanced_acc"):
                run.define_metric(f"val/{key}", step_metric=step, summary="max")
            for key in ("loss", "ece"):
                run.define_metric(f"val/{key}", step_metric=step, summary="min")
        return run

    def log(self, row: Row) -> None:
        """Log one epoch, unless the server's copy of a resumed run has it."""
        self.rows.append(row)
        step = step_of(row)
        with self._made_good_offline():
            if step >= self.run.starting_step:
                self.run.log(dict(row), step=step, commit=True)

    @contextmanager
    def _made_good_offline(self) -> Iterator[None]:
        """Note what cannot be logged online, since the server or W&B's own process is gone; see `close`."""
        try:
            yield
        except Exception:
            if self.run.offline:
                raise
            self.complete = False

    def finish(
        self, summary: Mapping[str, Any], test: TestResult | None, probes: Mapping[str, Table] = NO_PROBES
    ) -> None:
        """Log final metrics, confusion matrix, worst mistakes and what probes measured."""
        self.final = summary, test, probes
        with self._made_good_offline():  # online, logging a table needs the server
            self._finish(summary, test, probes)

    def _finish(
        self, summary: Mapping[str, Any], test: TestResult | None, probes: Mapping[str, Table]
    ) -> None:
        import wandb

        self.run.summary.update(dict(summary))
        if charts := probe_charts(probes):
            self.run.log({"epoch": int(summary["epochs"]) - 1, **charts}, commit=False)
        if test is None:
            return
        predicted = test.probabilities.argmax(1)
        mistakes = [
            wandb.Image(
                test.image(i).squeeze(),
                caption=f"{test.classes[test.labels[i]]}, classified as {test.classes[predicted[i]]} "
                f"(p = {test.probabilities[i].max():.2f})",
            )
            for i in test.worst(self.logger.images)
        ]
        last = {"epoch": int(summary["epochs"]) - 1}
        self.run.log(last | ({"test/worst_mistakes": mistakes} if mistakes else {}), commit=False)
        confusion = wandb.plot.confusion_matrix(
            y_true=test.labels.tolist(),
            preds=predicted.tolist(),
            class_names=test.classes,
            title="test set",
        )
        self.run.log({"test/confusion": confusion})

    def close(self, end: End) -> None:
        """Finish the W&B run, then delete the files that it replaces.

        If something could not be logged because the server was gone, log the whole run again offline, so
        that `cnnbench sync` can complete W&B's copy.
        """
        if self._end(end) and self.complete:
            return
        rows, self.rows = self.rows, []
        self.run = self._start("offline")
        for row in rows:
            self.log(row)
        if self.final is not None:
            self._finish(*self.final)
        self._end(end)

    def _end(self, end: End) -> bool:
        """End the W&B run; return whether its files have all that is to be kept."""
        if end.state == "superseded":  # the other process describes the run, whose files are not earlier ones
            self.run.finish(exit_code=end.exit_code)
            self.complete = True
            return True
        with self._made_good_offline():
            wandb_end.end(self.run, end.state, end.error)
        return wandb_end.finish(self.run, self.folder, end.exit_code, complete=self.complete)
