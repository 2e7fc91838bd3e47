"""Sweeps of a command: run all points, and print the tables that end the sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig
from rich.console import RenderableType

from cnnbench.commands.failures import explanation, see_log
from cnnbench.commands.train import Session
from cnnbench.console import console, out
from cnnbench.errors import InputError, of_system
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run
from cnnbench.run_store.table import runs_table
from cnnbench.safe_text import print_error, print_traceback
from cnnbench.settings.bench import Bench
from cnnbench.settings.identity import locate
from cnnbench.settings.run import Settings

if TYPE_CHECKING:
    from cnnbench.sweeps.driver import Course
    from cnnbench.sweeps.plan import Cell, Plan
    from cnnbench.sweeps.pool import Pool

PAGE = "compare.html"
"""File of a sweep's page, beside its runs."""

ROWS = 60
"""Number of runs up to which all are listed at the end of a sweep; of more, only those that failed."""


class SweepSession(Session):
    """Session of a sweep: a launcher calls `sweep` with all points, or the object once for each run."""

    brief = True

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[Run, str] = {}  # with the reason if it failed
        self.select: list[str] = []
        self.measured, self.timed = False, True

    def sweep(
        self,
        points: Sequence[Sequence[str]],
        loader: ConfigLoader,
        master: DictConfig,
        pool_for: Callable[[Plan], Pool],
        watch: Callable[[Course], None] | None = None,
    ) -> list[Run | None]:
        """Train the unfinished runs of a sweep; see `cnnbench.sweeps.run.sweep`.

        Returns:
            The run of each point; None if it was refused.
        """
        from cnnbench.sweeps.run import sweep

        try:
            plan = sweep(points, loader, master, partial(locate, known={}), pool_for, self.note_cell, watch)
        except InputError:
            raise
        except Exception as error:  # of this machine, in cnnbench or in a cluster
            if line := explanation(error):
                print_error(line)
            else:
                print_traceback(error)
            self.exit_code = 1
            return [None] * len(points)
        self.exit_code = max(self.exit_code, *(bool(reason) for reason in self.runs.values()))
        return [cell.run if cell is not None else None for cell in plan.points]

    def note_cell(self, cell: Cell, reason: str) -> None:
        """Record a run of the sweep, with the reason if it failed."""
        self._add(cell.run, cell.settings, reason)

    def recall(self, run: Run) -> None:
        """Include a run that an earlier launch of a study has trained."""
        self.runs.setdefault(run, "")

    def note(self, run: Run, settings: Settings) -> None:
        """Record and announce a run that starts in this process."""
        self._add(run, settings)
        console.rule(run.path.name, align="left", style="dim")

    def failed(self, run: Run | None, error: Exception) -> None:
        """Print an error now, and keep it for the table at the end."""
        if run is not None:
            if not isinstance(error, InputError):
                self.runs[run] = of_system(error, run.path) or f"{type(error).__name__}: {error}"
            elif run.state == "new":
                self.runs.pop(run, None)
        super().failed(run, error)

    def _add(self, run: Run, settings: Settings, reason: str = "") -> None:
        self.runs[run] = reason
        self.select = settings.select
        self.measured = isinstance(settings, Bench)
        self.timed = not (isinstance(settings, Bench) and (settings.parity or settings.tune))

    def report(self) -> None:
        """Write the page of a sweep, and print the tables that end it."""
        if not self.runs:
            return
        # The page first: perhaps nobody reads the tables any more. Without it they are the entire result.
        comparison = self._compare() if self.timed else []
        if self.measured:
            from cnnbench.bench.table import findings

            for table in findings(list(self.runs)):
                out.print(table)
        listed = [run for run, reason in self.runs.items() if reason or len(self.runs) <= ROWS]
        if listed:
            out.print(runs_table(listed))
        for run, reason in self.runs.items():
            if reason:
                line = f"{run.path.name}: {reason}{see_log(run)}"
                out.print(line, style="red", markup=False, soft_wrap=True)
        for part in comparison:
            out.print(part, highlight=False, soft_wrap=isinstance(part, str))

    def _compare(self) -> list[RenderableType]:
        """Write the page, and return what is to be printed of the comparison."""
        from cnnbench.comparison.comparison import Options, compare
        from cnnbench.comparison.records import record
        from cnnbench.comparison.report import terminal
        from cnnbench.comparison.report.page import page

        options, folder = Options(select=tuple(self.select)), next(iter(self.runs)).path.parent
        records = [one for one in map(record, self.runs) if one.state != "new"]  # others never started
        if not records:
            return []
        # The page covers the experiment: rerunning a subset of it keeps its other runs on the page.
        others = [record(run) for run in find(folder) if run not in self.runs]
        comparison = compare(records, options)
        title = f"{folder}, of {len(records) + len(others)} in all" if others else str(folder)
        parts: list[RenderableType] = [terminal.picture(comparison, title, methods=False)]
        target = folder / PAGE
        everything = compare([*records, *others], options) if others else comparison
        try:
            write_atomic(target, page(everything, str(folder), target))
        except OSError as error:
            print_error(of_system(error, target))
        else:
            parts.append(f"page: {target}")
        return [*parts, f"compare: cnnbench compare {folder}"]
