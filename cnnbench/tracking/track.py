"""Entry points of tracking: `check` before a run, `track` around it, `answer_agent` in place of it.

A tracker belongs to one attempt of one run and is always closed with the attempt's exit code. No failure of a
tracker may end the run: it is reported once, and training continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cnnbench.console import console
from cnnbench.run_store.probes import Table
from cnnbench.run_store.run import Run
from cnnbench.settings.logger import WandbLogger
from cnnbench.settings.run import Settings
from cnnbench.tracking import lightning_tracker, wandb_run
from cnnbench.tracking.base import NO_PROBES, End, NullTracker, Row, TestResult, Tracker
from cnnbench.tracking.lightning_tracker import LightningTracker
from cnnbench.tracking.wandb_tracker import WandbTracker, under_agent


def check(settings: Settings) -> None:
    """Check before training that the tracker can work at all.

    Raises:
        InputError: no API key for W&B's online mode, or a logger whose package is not installed.
    """
    logger = settings.logger
    if isinstance(logger, WandbLogger):
        if logger.mode == "online":
            # Not verified: an unreachable server is no reason not to train.
            wandb_run.check_key("logger.mode=online")
    elif logger.target is not None:
        lightning_tracker.check(logger)


@contextmanager
def track(settings: Settings, run: Run, repeats: int, rows: Sequence[Row]) -> Iterator[Tracker]:
    """Yield the tracker of one attempt, and close it with the attempt's end.

    Args:
        settings: of the run; `logger` selects the tracker.
        run: the run.
        repeats: how often `force=true` has replaced the run.
        rows: epochs of earlier attempts, logged first.
    """
    try:
        tracker = _GuardedTracker(_open(settings, run, repeats), run.files.check)
    except Exception as error:  # loggers and servers raise anything; none of it may end the run
        _report(error)
        tracker = _GuardedTracker(NullTracker(), run.files.check)
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


def answer_agent(settings: Settings, run: Run) -> None:
    """Log the stored metrics of a finished run to the W&B sweep whose agent requested it.

    Does nothing outside a W&B sweep.
    """
    if not under_agent() or not isinstance(settings.logger, WandbLogger):
        return
    check(settings)
    try:
        tracker = WandbTracker(settings.logger, settings, run, 0)
        for row in run.rows():
            tracker.log(row)
        tracker.run.summary.update(run.summary())
        tracker.close(End(0, run.state, str(run.status().get("error", {}).get("message", ""))))
    except Exception as error:  # as in `track`
        _report(error)


def _open(settings: Settings, run: Run, repeats: int) -> Tracker:
    logger = settings.logger
    if isinstance(logger, WandbLogger):
        return WandbTracker(logger, settings, run, repeats)
    if logger.target is None:
        return NullTracker()
    return LightningTracker(logger, settings, run)


def _report(error: Exception) -> None:
    console.print(
        f"logging failed ({type(error).__name__}: {error}); the run continues, and its folder stays complete",
        style="yellow",
        highlight=False,
    )


class _GuardedTracker:
    """A tracker that reports its first failure and logs nothing after it.

    It calls `check` before it logs: the files of a logger are not fenced, as it writes them by itself.
    """

    def __init__(self, tracker: Tracker, check: Callable[[], None]) -> None:
        self.tracker, self.check = tracker, check
        self.broken = False

    def _try(self, method: str, *args: Any) -> None:
        if self.broken and method != "close":
            return
        try:
            getattr(self.tracker, method)(*args)
        except Exception as error:  # as in `track`
            self.broken = True
            _report(error)

    def log(self, row: Row) -> None:
        self.check()
        self._try("log", row)

    def finish(
        self, summary: Mapping[str, Any], test: TestResult | None, probes: Mapping[str, Table] = NO_PROBES
    ) -> None:
        self.check()
        self._try("finish", summary, test, probes)

    def close(self, end: End) -> None:
        self._try("close", end)
