"""Where metrics go besides the run's folder: W&B, or any Lightning logger.

A tracker belongs to one attempt of one run and is always closed with the attempt's exit code.
Nothing that a tracker does may cost the run: what fails here is reported, and training goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cnnbench.console import console
from cnnbench.run_store.run import Run
from cnnbench.settings.logger import WandbLogger
from cnnbench.settings.run import Settings
from cnnbench.tracking import wandb_run
from cnnbench.tracking.base import End, Nowhere, Row, TestResult, Tracker
from cnnbench.tracking.lightning_tracker import Lightning, lightning_logger
from cnnbench.tracking.wandb_tracker import Wandb, under_agent


@contextmanager
def track(settings: Settings, run: Run, repeats: int, rows: Sequence[Row]) -> Iterator[Tracker]:
    """A tracker for one attempt, that has the `rows` of earlier attempts already."""
    try:
        tracker = _Guarded(_open(settings, run, repeats))
    except Exception as error:  # of any logger and any server: none may cost the run
        _report(error)
        tracker = _Guarded(Nowhere())
    end = End()
    try:
        for row in rows:
            tracker.log(row)
        yield tracker
    except BaseException as error:
        end = End.by(error)
        raise
    finally:
        tracker.close(end)


def check(settings: Settings) -> None:
    """Find out before training what would stop a tracker from working at all.

    Raises:
        InputError: no API key for W&B's online mode, or a logger whose package is not installed.
    """
    logger = settings.logger
    if isinstance(logger, WandbLogger):
        if logger.mode == "online":
            # Not verified: a server out of reach is no reason not to train.
            wandb_run.check_key("logger.mode=online")
    elif logger.target is not None:
        lightning_logger(logger, None)


def answer_agent(settings: Settings, run: Run) -> None:
    """Tell W&B's sweep what a run gave that it asks for and that is done already."""
    if not under_agent() or not isinstance(settings.logger, WandbLogger):
        return
    check(settings)
    try:
        tracker = Wandb(settings.logger, settings, run, 0)
        for row in run.rows():
            tracker.log(row)
        tracker.run.summary.update(run.summary())
        tracker.close(End(0, run.state, str(run.status().get("error", {}).get("message", ""))))
    except Exception as error:  # as above
        _report(error)


def _open(settings: Settings, run: Run, repeats: int) -> Tracker:
    logger = settings.logger
    if isinstance(logger, WandbLogger):
        return Wandb(logger, settings, run, repeats)
    if logger.target is None:
        return Nowhere()
    return Lightning(logger, settings, run)


def _report(error: Exception) -> None:
    console.print(
        f"logging failed ({type(error).__name__}: {error}); the run goes on, complete in its folder",
        style="yellow",
        highlight=False,
    )


class _Guarded:
    """Passes everything on until something fails; says so once, and is silent from then on."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.broken = False

    def _try(self, what: str, *args: Any) -> None:
        if self.broken and what != "close":
            return
        try:
            getattr(self.tracker, what)(*args)
        except Exception as error:  # as above
            self.broken = True
            _report(error)

    def log(self, row: Row) -> None:
        self._try("log", row)

    def finish(self, summary: Mapping[str, Any], test: TestResult | None) -> None:
        self._try("finish", summary, test)

    def close(self, end: End) -> None:
        self._try("close", end)
