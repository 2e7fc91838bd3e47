"""`cnnbench train`: train one configuration, or a sweep of them with -m.

A run that is finished is answered from its folder, without importing torch.
"""

from __future__ import annotations

import errno
import os
import pkgutil
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cnnbench import __version__, console
from cnnbench.commands import runs
from cnnbench.commands.sweep_report import PAGE, ROWS
from cnnbench.errors import Busy, Finding, InputError, Interrupted
from cnnbench.processes.forked import Died
from cnnbench.processes.signals import interruptible
from cnnbench.run_store import lease
from cnnbench.run_store import table as run_store_table
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.find import find
from cnnbench.run_store.run import DONE, Run
from cnnbench.settings import Bench, Settings, compose, parse, plain
from cnnbench.settings.identity import locate

if TYPE_CHECKING:
    from cnnbench.sweeps.driver import Course
    from cnnbench.sweeps.plan import Cell, Plan
    from cnnbench.sweeps.pool import Pool


OBJECTIVES = {"train": "best/val_acc", "bench": "time/latency_p50_ms"}
"""What a search looks at, by verb."""


def main(arguments: list[str], verb: str = "train") -> int:
    """Run `cnnbench train`, or another verb that makes runs, and return the exit code: the worst of all."""
    session = Session(many=any(word in (*compose.MULTIRUN, "hydra.mode=MULTIRUN") for word in arguments))
    try:
        with interruptible():
            compose.run(session, verb, arguments)
    except Interrupted as error:
        console.console.print("interrupted; the same command goes on where this one was", style="yellow")
        return 128 + error.signum
    finally:
        session.report()
    return session.exit_code


class Session:
    """What one command trains: a run, or the runs of a sweep.

    Args:
        many: it is a sweep.
    """

    def __init__(self, *, many: bool) -> None:
        self.many = many
        self.exit_code = 0
        self.select: list[str] = []
        self.measured, self.timed = False, True
        self.runs: dict[Run, str] = {}  # with the reason of those that failed

    def __call__(self, config: DictConfig) -> float:
        """Train one run in this process; what goes wrong with it is reported at once."""
        run = None
        try:
            hydra = HydraConfig.get()
            command = compose.command(hydra.overrides.task, hydra)
            settings = parse(plain(config)).model_copy(update={"command": command})
            run = locate(settings)
            self._add(run, settings)
            if self.many:
                console.console.rule(run.path.name, align="left", style="dim")
            return train(settings, run, brief=self.many)
        except InputError as error:
            if run is not None and run.state == "new":
                del self.runs[run]
            self.exit_code = max(self.exit_code, 2)
            print(f"error: {error}", file=sys.stderr)
        except Exception as error:  # of a model, a disk, a device: recorded, and a sweep goes on
            assert run is not None
            self.runs[run] = f"{type(error).__name__}: {error}"
            self.exit_code = max(self.exit_code, 1)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                print(f"error: {run.path}: {error.strerror}", file=sys.stderr)
            elif isinstance(error, Finding) or isinstance(error.__cause__, Died):  # which say all there is
                print(f"error: {error}", file=sys.stderr)
            else:
                traceback.print_exc()
            log = run.path / "train.log"
            print(f"error: {run.path.name} failed" + f"; see {log}" * log.exists(), file=sys.stderr)
        return float("nan")

    def sweep(
        self,
        points: Sequence[Sequence[str]],
        loader: ConfigLoader,
        master: DictConfig,
        pool_for: Callable[[Plan], Pool],
        watch: Callable[[Course], None] | None = None,
    ) -> list[Run | None]:
        """Train the runs of a sweep that are not done; called by a launcher.

        Returns:
            For each of the points its run; None where it was refused.
        """
        from cnnbench.sweeps.run import sweep

        try:
            found = sweep(points, loader, master, partial(locate, known={}), pool_for, self.note, watch)
        except InputError:
            raise
        except Exception:  # a fault of cnnbench, or of a cluster
            traceback.print_exc()
            self.exit_code = 1
            return [None] * len(points)
        self.exit_code = max(self.exit_code, *(bool(reason) for reason in self.runs.values()))
        return [cell.run if cell is not None else None for cell in found.points]

    def note(self, cell: Cell, reason: str) -> None:
        """Take note of a run of a sweep, and why it failed if it did."""
        self._add(cell.run, cell.settings, reason)

    def recall(self, run: Run) -> None:
        """Show also a run that an earlier launch of a study has trained."""
        self.runs.setdefault(run, "")

    def _add(self, run: Run, settings: Settings, reason: str = "") -> None:
        self.runs[run] = reason
        self.select = settings.select
        self.measured = isinstance(settings, Bench)
        self.timed = not (isinstance(settings, Bench) and (settings.parity or settings.tune))

    def report(self) -> None:
        """The tables that end a sweep."""
        if not self.many or not self.runs:
            return
        if self.measured:
            from cnnbench.bench.table import findings

            for table in findings(list(self.runs)):
                console.out.print(table)
        shown = [run for run, reason in self.runs.items() if reason or len(self.runs) <= ROWS]
        if shown:
            console.out.print(run_store_table.runs_table(shown))
        for run in [run for run, reason in self.runs.items() if reason]:
            log = run.path / "train.log"
            where = f"; see {log}" if log.exists() else ""
            console.out.print(
                f"{run.path.name}: {self.runs[run]}{where}", style="red", markup=False, soft_wrap=True
            )
        from cnnbench.comparison.comparison import Options, compare
        from cnnbench.comparison.records import record
        from cnnbench.comparison.report import terminal
        from cnnbench.comparison.report.page import page

        if not self.timed:
            return  # there is nothing to compare: what was found has been shown
        options, folder = Options(select=tuple(self.select)), next(iter(self.runs)).path.parent
        mine = [
            record(run) for run in self.runs if run.state != "new"
        ]  # Ctrl-C leaves some that never started
        if not mine:
            return
        # The page is the experiment's: a part of it that is launched again does not take the rest away.
        others = [record(run) for run in find(folder) if run not in self.runs]
        found = compare(mine, options)
        title = f"{folder}, of {len(mine) + len(others)} there" if others else str(folder)
        console.out.print(terminal.picture(found, title, methods=False), highlight=False)
        target, whole = folder / PAGE, compare([*mine, *others], options) if others else found
        try:
            write_atomic(target, page(whole, str(folder), target))
        except OSError as error:
            print(f"error: {target}: {error.strerror}", file=sys.stderr)
        else:
            console.out.print(f"page: {target}", highlight=False, soft_wrap=True)
        console.out.print(f"again: cnnbench compare {folder}", highlight=False, soft_wrap=True)


def train(settings: Settings, run: Run, *, brief: bool = False) -> float:
    """Train a run to its end, unless it is there already, and show what came out.

    Returns:
        The best val accuracy, for a sweeper to optimise; NaN for a run that diverged.
    """
    state = _awaited(run)
    if state in DONE and not settings.force:
        made_by = run.status().get("versions", {}).get("cnnbench")
        if made_by != __version__:
            console.console.print(
                f"trained by cnnbench {made_by}; this is {__version__}", style="yellow", highlight=False
            )
        if os.environ.get("WANDB_SWEEP_ID"):
            from cnnbench.tracking.track import answer_agent

            answer_agent(settings, run)
        if not brief:
            again = f"force=true {'measures' if isinstance(settings, Bench) else 'trains'} it again"
            console.console.print(f"already {state}: shown from disk ({again})", style="dim")
            if other := settings.made_otherwise(run):
                console.console.print(f"it was measured {other}", style="yellow", highlight=False)
    else:
        with console.console.status("starting"):  # torch and Lightning take seconds to import
            work = pkgutil.resolve_name(settings.work)
        try:
            work(settings, run)
        except Busy:
            return train(settings, run, brief=brief)
    if not brief:
        console.out.print(runs.run_picture(run))
    return best(run)


def best(run: Run) -> float:
    """The best val accuracy, or of a measurement the latency; NaN where there is none."""
    found: Any = run.summary().get(OBJECTIVES[run.verb], float("nan"))
    return float(found)


def _awaited(run: Run) -> str:
    """The run's state, once no other process trains it."""
    if run.state != "running":
        return run.state
    held = lease.of(run.path)
    who = "{host}, process {pid}".format(**{"host": "?", "pid": "?"} | run.status())
    with console.console.status(f"{run.path.name} is being trained already ({who}); waiting for it"):
        if not console.console.is_terminal:
            console.console.print(f"{run.path.name} is being trained already ({who}); waiting for it")
        while not lease.frees(held):
            time.sleep(0.5)
    return run.state
