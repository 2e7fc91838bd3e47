"""Tracker for any of Lightning's loggers: TensorBoard, CSV, or a user's own."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from cnnbench.errors import InputError
from cnnbench.run_store.probes import Table
from cnnbench.run_store.run import Run
from cnnbench.settings.base import Component
from cnnbench.settings.instantiate import factory
from cnnbench.settings.run import Settings
from cnnbench.tracking.base import NO_PROBES, STEPS, End, Row, TestResult, step_of
from cnnbench.tracking.probe_charts import by_step


class LightningTracker:
    """A Lightning logger that writes its files, if any, to `<run>/<logger's name>/`.

    A later attempt replaces the files of the earlier one and logs the earlier epochs again.
    """

    def __init__(self, logger: Component, settings: Settings, run: Run) -> None:
        shutil.rmtree(run.path / logger.name, ignore_errors=True)
        self.logger = _constructor(logger, str(run.path))()
        self.logger.log_hyperparams(_flatten(settings.choice()))

    def log(self, row: Row) -> None:
        """Log one epoch."""
        step = step_of(row)
        self.logger.log_metrics({k: v for k, v in row.items() if k not in STEPS.values()}, step=step)
        self.logger.save()

    def finish(
        self, summary: Mapping[str, Any], test: TestResult | None, probes: Mapping[str, Table] = NO_PROBES
    ) -> None:
        """Log what probes measured over the steps, and the final metrics as those of the last epoch."""
        for step, values in by_step(probes):
            self.logger.log_metrics(values, step=step)
        numbers = {key: value for key, value in summary.items() if isinstance(value, int | float)}
        self.logger.log_metrics(numbers, step=int(summary.get("epochs", 0)))
        self.logger.save()

    def close(self, end: End) -> None:
        """Flush and close the logger, unless its files are another process's by now."""
        if end.state != "superseded":
            self.logger.finalize("success" if end.exit_code == 0 else "failed")


def check(logger: Component) -> None:
    """Check before training that the logger can be constructed.

    Raises:
        InputError: it does not exist, does not accept its settings, or its package is not installed.
    """
    _constructor(logger, "")
    if logger.name == "tensorboard" and not importlib.util.find_spec("tensorboard"):
        raise InputError("logger=tensorboard: not installed; run `pip install 'cnnbench[tensorboard]'`")


def _constructor(logger: Component, save_dir: str) -> Callable[[], Any]:
    """Return the logger's constructor, bound to a folder if the logger takes one."""
    return factory(logger, "logger", save_dir=save_dir, name=logger.name, version="")


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"a": {"b": 1}} as {"a/b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= (
            _flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        )
    return flat
