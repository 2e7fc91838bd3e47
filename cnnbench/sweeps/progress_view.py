"""A sweep while it goes on: in a terminal one picture of all runs, elsewhere a line for each that ends."""

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
"""A run that has spent its estimate should need a tenth of what it took once more."""

ROWS = 20
"""Running runs that are shown; a cluster may have more."""


class View:
    """Shows a sweep to people, from the folders of its runs.

    Args:
        plan: the sweep.
        at_once: how many runs are carried out at a time; 0 if that is not known.
    """

    def __init__(self, plan: Plan, at_once: int) -> None:
        self.plan, self.at_once = plan, at_once
        self.total = len(plan.pending)
        self.began = self.shown = time.monotonic()
        self.live = Live(console=console.console, auto_refresh=False, transient=True)
        self.seconds: list[tuple[float, float | None]] = []
        self.started: dict[Cell, float] = {}
        self.most = 1  # runs that were seen at work at the same time

    def __enter__(self) -> Self:
        if console.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def changed(self, course: Course) -> None:
        """Show how things stand."""
        now = time.monotonic()
        at_work = list(course.running) if self.at_once else self._at_work(course)
        self.most = max(self.most, len(at_work))
        for cell in at_work:
            self.started.setdefault(cell, now)
        if now - self.shown > REFRESH_S:
            self._show(course)

    def ended(self, course: Course, cell: Cell, outcome: Outcome) -> None:
        """An attempt that has ended: `[3/24] basic-digits-s0-…  finished  val 97.20 %  ETA 2:10 min`."""
        began = self.started.pop(cell, None)
        if began is not None and cell in course.results:
            self.seconds.append((time.monotonic() - began, cell.estimate_s))
        text = Text(f"[{len(course.results)}/{self.total}] {cell.run.path.name}  ")
        if cell in course.elsewhere:
            state = "trained elsewhere"
        elif cell in course.waiting:
            state = "to be tried again"
        else:
            state = cell.run.state
            if outcome.kind != "ended" and state != "interrupted":
                state = "failed"  # also where nothing could be written
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
            self.live.update(self._picture(course), refresh=True)

    def _at_work(self, course: Course) -> list[Cell]:
        """The runs that are being trained: of those that were handed to a cluster, many may be waiting."""
        return [cell for cell in course.running if (cell.run.path / lease.NAME).exists()]

    def _picture(self, course: Course) -> RenderableType:
        done, at_work = len(course.results), self._at_work(course)
        kinds = Counter(outcome.kind == "ended" for outcome in course.results.values())
        counts = f"{done}/{self.total} runs, {len(at_work)} running"
        if course.elsewhere:
            counts += f", {len(course.elsewhere)} elsewhere"
        if kinds[False]:
            counts += f", {kinds[False]} gone wrong"
        eta = self._eta(course)
        head = Table.grid(padding=(0, 2))
        head.add_row(
            ProgressBar(total=max(1, self.total), completed=done, width=30),
            counts,
            console.duration(time.monotonic() - self.began),
            f"ETA {console.duration(eta)}" if eta is not None else "",
        )
        table = Table.grid(padding=(0, 2))
        for cell in at_work[:ROWS]:
            since = console.duration(time.monotonic() - self.started.get(cell, time.monotonic()))
            table.add_row(Text(cell.run.path.name, "bold"), *_progress(cell), since)
        if len(at_work) > ROWS:
            table.add_row(f"and {len(at_work) - ROWS} more")
        return Group(head, table)

    def _eta(self, course: Course) -> float | None:
        """Seconds to go: what the runs should take, corrected by what those that ended did take."""
        known = [seconds for cell in self.plan.pending if (seconds := cell.estimate_s) is not None]
        guess = sum(known) / len(known) if known else None
        ended = sum(seconds for seconds, _ in self.seconds)
        expected = sum(estimate or guess or 0 for _, estimate in self.seconds)
        if guess is None:
            if not self.seconds:
                return None
            guess, factor = ended / len(self.seconds), 1.0
        else:
            factor = ended / expected if expected else 1.0
        now = time.monotonic()
        left = sum(factor * (cell.estimate_s or guess) for cell in course.waiting)
        for cell in course.running:
            spent = now - self.started.get(cell, now)
            # One that takes longer than it should is not done at once.
            left += max(spent / LATE, factor * (cell.estimate_s or guess) - spent)
        runs = len(course.waiting) + len(course.running)
        return left / max(1, min(self.at_once or self.most, runs))


def _progress(cell: Cell) -> tuple[RenderableType, str, str]:
    """How far a run is: its epochs; a measurement has none."""
    if cell.settings.verb == "bench":
        return "", "measuring", ""
    rows, epochs = cell.run.rows(), cell.settings.trainer.max_epochs
    last = f"val {console.percent(rows[-1].get('val/acc'))}" if rows else ""
    return ProgressBar(total=epochs, completed=len(rows), width=20), f"epoch {len(rows)}/{epochs}", last
