"""Lightning's loggers as trackers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import Any

from cnnbench.errors import InputError
from cnnbench.run_store.run import Run
from cnnbench.settings.base import Component
from cnnbench.settings.instantiate import factory
from cnnbench.settings.run import Settings
from cnnbench.tracking.base import STEPS, End, Row, TestResult, step_of


class Lightning:
    """Any Lightning logger, writing below the run's folder if it writes files.

    A later attempt writes the earlier epochs anew, in place of the earlier attempt's files.
    """

    def __init__(self, logger: Component, settings: Settings, run: Run) -> None:
        shutil.rmtree(run.path / logger.name, ignore_errors=True)
        self.logger = lightning_logger(logger, run)()
        self.logger.log_hyperparams(flattened(settings.choice()))

    def log(self, row: Row) -> None:
        """One epoch."""
        step = step_of(row)
        self.logger.log_metrics({k: v for k, v in row.items() if k not in STEPS.values()}, step=step)
        self.logger.save()

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        """The final figures, as metrics of the last epoch."""
        numbers = {key: value for key, value in summary.items() if isinstance(value, int | float)}
        self.logger.log_metrics(numbers, step=int(summary.get("epochs", 0)))
        self.logger.save()

    def close(self, end: End) -> None:
        """Flush."""
        self.logger.finalize("success" if end.exit_code == 0 else "failed")


def lightning_logger(logger: Component, run: Run | None) -> Callable[[], Any]:
    """The logger's constructor, with a place in the run's folder where it asks for one."""
    place = {"save_dir": str(run.path) if run else "", "name": logger.name, "version": ""}
    make = factory(logger, "logger", **place)
    if logger.name == "tensorboard" and run is None:
        import importlib.util

        if not importlib.util.find_spec("tensorboard"):
            raise InputError("logger=tensorboard: not installed; run `pip install 'cnnbench[tensorboard]'`")
    return make


def flattened(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a/b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= (
            flattened(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        )
    return flat
