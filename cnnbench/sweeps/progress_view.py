"""Progress of a sweep: in a terminal one live table of all runs, elsewhere a line for each run that ends."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.run_store import lease
from cnnbench.run_store import table as run_store_table
from cnnbench.sweeps.driver import Course
from cnnbench.sweeps.plan import Cell, Plan
from cnnbench.sweeps.pool import Outcome

REFRESH_S = 0.5
LATE = 10
"""A run that has used up its estimate is expected to need another tenth of the time spent so far."""

ROWS = 20
"""Running runs that are shown; a cluster may have more."""


class ProgressView:
    """Display of a sweep's progress, read from the folders of its runs.

    Args:
        plan: the sweep.
        at_once: number of runs that are trained at a time; 0 if unknown.
    """

    def __init__(self, plan: Plan, at_once: int) -> None:
        self.plan, self.at_once = plan, at_once
        self.total = len(plan.pending)
        self.began = self.shown = time.monotonic()
        self.live = Live(console=console.console, auto_refresh=False, transient=True)
        self.durations: list[tuple[float, float | None]] = []  # of runs that ended: actual, estimated seconds
        self.started: dict[Cell, float] = {}
        self.most_at_once = 1

    def __enter__(self) -> Self:
        if console.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def changed(self, course: Course) -> None:
        """Update the display if it is older than `REFRESH_S`."""
        now = time.monotonic()
        training = list(course.running) if self.at_once else self._training(course)
        self.most_at_once = max(self.most_at_once, len(training))
        for cell in training:
            self.started.setdefault(cell, now)
        if now - self.shown > REFRESH_S:
            self._show(course)

    def ended(self, course: Course, cell: Cell, outcome: Outcome) -> None:
        """Print an ended attempt: `[3/24] basic-digits-s0-…  finished  val 97.20 %  ETA 2:10 min`."""
        began = self.started.pop(cell, None)
        if began is not None and cell in course.results:
            self.durations.append((time.monotonic() - began, cell.estimate_s))
        text = Text(f"[{len(course.results)}/{self.total}] {cell.run.path.name}  ")
        if cell in course.elsewhere:
            state = "trained elsewhere"
        elif cell in course.waiting:
            state = "will be retried"
        else:
            state = cell.run.state
            if outcome.kind != "ended" and state != "interrupted":
                state = "failed"  # even if its folder could not be written
        text.append(state, run_store_table.COLOURS.get(state, "yellow"))
        if state == "finished":
            text.append(f"  {run_store_table.outcome(cell.run)}")
        elif outcome.reason:
            text.append(f"  {outcome.reason}")
        if (eta := self._eta(course)) is not None and len(course.results) < self.total:
            text.append(f"  ETA {console.duration(eta)}", "dim")
        console.console.print(text, highlight=False, soft_wrap=True)
        self._show(course)

    def _show(self, course: Course) -> None:
        if self.live.is_started:
            self.shown = time.monotonic()
            self.live.update(self._table(course), refresh=True)

    def _training(self, course: Course) -> list[Cell]:
        """Return the runs that are being trained; on a cluster, many running jobs may still be queued."""
        return [cell for cell in course.running if (cell.run.path / lease.NAME).exists()]

    def _table(self, course: Course) -> RenderableType:
        done, training = len(course.results), self._training(course)
        succeeded = Counter(outcome.kind == "ended" for outcome in course.results.values())
        counts = f"{done}/{self.total} runs, {len(training)} running"
        if course.elsewhere:
            counts += f", {len(course.elsewhere)} elsewhere"
        if succeeded[False]:
            counts += f", {succeeded[False]} failed"
        eta = self._eta(course)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=max(1, self.total), completed=done, width=30),
            counts,
            console.duration(time.monotonic() - self.began),
            f"ETA {console.duration(eta)}" if eta is not None else "",
        )
        table = Table.grid(padding=(0, 2))
        for cell in training[:ROWS]:
            elapsed = console.duration(time.monotonic() - self.started.get(cell, time.monotonic()))
            table.add_row(Text(cell.run.path.name, "bold"), *_progress(cell), elapsed)
        if len(training) > ROWS:
            table.add_row(f"and {len(training) - ROWS} more")
        return Group(head, table)

    def _eta(self, course: Course) -> float | None:
        """Return the seconds left: the runs' estimates, scaled by how long those that ended took instead."""
        estimates = [seconds for cell in self.plan.pending if (seconds := cell.estimate_s) is not None]
        default = sum(estimates) / len(estimates) if estimates else None
        actual = sum(seconds for seconds, _ in self.durations)
        expected = sum(estimate or default or 0 for _, estimate in self.durations)
        if default is None:
            if not self.durations:
                return None
            default, factor = actual / len(self.durations), 1.0
        else:
            factor = actual / expected if expected else 1.0
        now = time.monotonic()
        left = sum(factor * (cell.estimate_s or default) for cell in course.waiting)
        for cell in course.running:
            spent = now - self.started.get(cell, now)
            left += max(spent / LATE, factor * (cell.estimate_s or default) - spent)
        runs = len(course.waiting) + len(course.running)
        return left / max(1, min(self.at_once or self.most_at_once, runs))


def _progress(cell: Cell) -> tuple[RenderableType, str, str]:
    """Return a run's progress bar, epoch and last accuracy; a measurement has no epochs."""
    if cell.settings.verb == "bench":
        return "", "measuring", ""
    rows, epochs = cell.run.rows(), cell.settings.trainer.max_epochs
    part = "val" if rows and "val/acc" in rows[-1] else "train"
    accuracy = f"{part} {console.percent(rows[-1].get(f'{part}/acc'))}" if rows else ""
    return ProgressBar(total=epochs, completed=len(rows), width=20), f"epoch {len(rows)}/{epochs}", accuracy
