"""`cnnbench train`: train one configuration, or a sweep of them with -m.

A run that is finished is answered from its folder, without importing torch.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pkgutil
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cnnbench import __version__, compose, lease, ui
from cnnbench.child import Died
from cnnbench.errors import Busy, Finding, InputError, Interrupted
from cnnbench.process import interruptible
from cnnbench.runs import DONE, Run, find, identity, write_atomic
from cnnbench.settings import Bench, Settings, parse, plain

if TYPE_CHECKING:
    from cnnbench.sweep.drive import Course
    from cnnbench.sweep.plan import Cell, Plan
    from cnnbench.sweep.pool import Pool

PAGE = "compare.html"
"""Where a sweep leaves its page, beside its runs."""

OBJECTIVES = {"train": "best/val_acc", "bench": "time/latency_p50_ms"}
"""What a search looks at, by verb."""

ROWS = 60
"""Runs that are listed at the end of a sweep; of more, those that failed."""


def main(arguments: list[str], verb: str = "train") -> int:
    """Run `cnnbench train`, or another verb that makes runs, and return the exit code: the worst of all."""
    session = Session(many=any(word in (*compose.MULTIRUN, "hydra.mode=MULTIRUN") for word in arguments))
    try:
        with interruptible():
            compose.run(session, verb, arguments)
    except Interrupted as error:
        ui.console.print("interrupted; the same command goes on where this one was", style="yellow")
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
                ui.console.rule(run.path.name, align="left", style="dim")
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
        from cnnbench.sweep.run import sweep

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
                ui.out.print(table)
        shown = [run for run, reason in self.runs.items() if reason or len(self.runs) <= ROWS]
        if shown:
            ui.out.print(ui.runs_table(shown))
        for run in [run for run, reason in self.runs.items() if reason]:
            log = run.path / "train.log"
            where = f"; see {log}" if log.exists() else ""
            ui.out.print(
                f"{run.path.name}: {self.runs[run]}{where}", style="red", markup=False, soft_wrap=True
            )
        from cnnbench.compare import terminal
        from cnnbench.compare.comparison import Options, compare
        from cnnbench.compare.page import page
        from cnnbench.compare.records import record

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
        ui.out.print(terminal.picture(found, title, methods=False), highlight=False)
        target, whole = folder / PAGE, compare([*mine, *others], options) if others else found
        try:
            write_atomic(target, page(whole, str(folder), target))
        except OSError as error:
            print(f"error: {target}: {error.strerror}", file=sys.stderr)
        else:
            ui.out.print(f"page: {target}", highlight=False, soft_wrap=True)
        ui.out.print(f"again: cnnbench compare {folder}", highlight=False, soft_wrap=True)


def locate(settings: Settings, known: dict[str, str] | None = None) -> Run:
    """The folder of the run that these settings describe, whether it exists or not.

    Args:
        settings: what was asked for.
        known: remembers what images and files hold, for the next run of a sweep.
    """
    if isinstance(settings, Bench):
        _check_of(settings)
    choice = settings.deciding()
    known = {} if known is None else known
    # Of a measurement neither the images nor their files decide anything; `of` names what does.
    images_count = not isinstance(settings, Bench)
    if images_count and settings.data.name == "imagefolder":
        from cnnbench.data.folder import fingerprint

        root = settings.data.root
        if root not in known:
            known[root] = fingerprint(Path(root).expanduser())
        choice["data"]["content"] = known[root]
    weights = settings.arch.weights
    if images_count and weights is not None and weights != "imagenet":
        if weights not in known:
            known[weights] = content(weights)
        choice["arch"]["weights"] = known[weights]
    name = f"{settings.label}-{identity(choice)}"
    return Run(Path(settings.output_dir).expanduser() / settings.name / name)


def _check_of(settings: Bench) -> None:
    """Whether what was asked for is measured: a trained run says it all, a training recipe says nothing."""
    said = [word for word in settings.command if re.match(r"[+~]*(arch|ops|data)[=.]", word)]
    if settings.of is not None and said:
        raise InputError(f"{said[0]}: of={settings.of} has its model and its images; allowed: without it")
    for word in settings.command:
        if re.match(r"[+~]*(trainer|scheduler|data\.batch_size)[=.]", word):
            raise InputError(f"{word}: bench does not use it; allowed: batch_sizes=[…], optimizer=…")


def content(path: str) -> str:
    """What a file of weights holds, for a run's identity: it counts by its content, not by its name.

    Raises:
        InputError: there is no such file.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        allowed = "imagenet, or a file of weights"
        raise InputError(f"arch.weights={path}: {error.strerror or error}; allowed: {allowed}") from None


def train(settings: Settings, run: Run, *, brief: bool = False) -> float:
    """Train a run to its end, unless it is there already, and show what came out.

    Returns:
        The best val accuracy, for a sweeper to optimise; NaN for a run that diverged.
    """
    state = _awaited(run)
    if state in DONE and not settings.force:
        made_by = run.status().get("versions", {}).get("cnnbench")
        if made_by != __version__:
            ui.console.print(
                f"trained by cnnbench {made_by}; this is {__version__}", style="yellow", highlight=False
            )
        if os.environ.get("WANDB_SWEEP_ID"):
            from cnnbench.tracking import answer_agent

            answer_agent(settings, run)
        if not brief:
            again = f"force=true {'measures' if isinstance(settings, Bench) else 'trains'} it again"
            ui.console.print(f"already {state}: shown from disk ({again})", style="dim")
            if other := settings.made_otherwise(run):
                ui.console.print(f"it was measured {other}", style="yellow", highlight=False)
    else:
        with ui.console.status("starting"):  # torch and Lightning take seconds to import
            work = pkgutil.resolve_name(settings.work)
        try:
            work(settings, run)
        except Busy:
            return train(settings, run, brief=brief)
    if not brief:
        ui.out.print(ui.run_picture(run))
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
    with ui.console.status(f"{run.path.name} is being trained already ({who}); waiting for it"):
        if not ui.console.is_terminal:
            ui.console.print(f"{run.path.name} is being trained already ({who}); waiting for it")
        while not lease.frees(held):
            time.sleep(0.5)
    return run.state
