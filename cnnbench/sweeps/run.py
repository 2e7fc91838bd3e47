"""One sweep from start to end: plan, preflight, announcement, training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.run import Run
from cnnbench.settings.run import Settings
from cnnbench.sweeps.driver import Course, drive
from cnnbench.sweeps.plan import Cell, Plan, announcement, plan, refusal
from cnnbench.sweeps.pool import Pool
from cnnbench.sweeps.progress_view import ProgressView


def sweep(
    points: Sequence[Sequence[str]],
    loader: ConfigLoader,
    master: DictConfig,
    locate: Callable[[Settings], Run],
    pool_for: Callable[[Plan], Pool],
    note: Callable[[Cell, str], None],
    watch: Callable[[Course], None] | None = None,
) -> Plan:
    """Train the runs of a sweep that are not done.

    Args:
        points: the overrides of each point of the sweep.
        loader: Hydra's config loader.
        master: the sweep's own config.
        locate: returns the run of given settings.
        pool_for: returns the pool that trains the runs; called only if any run is pending.
        note: called for each run with an empty reason, and again at the end with the reason of its failure.
        watch: called some 30 times a second with the current state of the runs.

    Returns:
        The plan, without the runs that the preflight found impossible.

    Raises:
        InputError: before anything is trained.
        Interrupted: runs on this machine were interrupted; they resume when they are launched again.
    """
    planned = plan(points, loader, master, locate)
    _check_refused(planned)
    if not planned.pending:
        console.console.print(announcement(planned), highlight=False)
        for cell in planned.cells:
            note(cell, "")
        return planned
    with console.console.status("preflight: testing models and data"):
        pool = pool_for(planned)
    try:
        if refused := pool.refused():
            planned = _without(planned, refused)
            _check_refused(
                replace(planned, refused={cell.overrides: reason for cell, reason in refused.items()})
            )
        _write_config(master, planned)
        console.console.print(_opening(planned, pool), highlight=False)
        for cell in planned.cells:
            note(cell, "")
        with ProgressView(planned, pool.at_once) as view:
            watchers = [view.changed, *([watch] if watch else [])]
            course = drive(planned, pool, watchers, view.ended)
        for cell, outcome in course.results.items():
            note(cell, outcome.reason)
        for cell in course.waiting:
            note(cell, "not started: another run failed")
        return planned
    finally:
        pool.close()


def _check_refused(planned: Plan) -> None:
    """Raise an InputError for refused runs, or print which ones are skipped if `sweep.on_refused=skip`."""
    if not planned.refused:
        return
    message = refusal(planned.refused, len(planned.points))
    if not planned.cells:
        raise InputError(message)
    if planned.sweep.on_refused == "stop":
        raise InputError(f"{message}\n  nothing was started; sweep.on_refused=skip runs the others")
    console.console.print(f"skipped: {message}", style="yellow", highlight=False, soft_wrap=True)


def _without(planned: Plan, refused: Mapping[Cell, str]) -> Plan:
    return replace(
        planned,
        points=[None if cell in refused else cell for cell in planned.points],
        refused=planned.refused | {cell.overrides: reason for cell, reason in refused.items()},
    )


def _write_config(master: DictConfig, planned: Plan) -> None:
    """Write the sweep's own config beside its runs.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = planned.cells[0].run.path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "multirun.yaml", OmegaConf.to_yaml(master))
    except OSError as error:
        raise InputError(f"output_dir: {folder} cannot be written ({error.strerror})") from None


def _opening(planned: Plan, pool: Pool) -> str:
    """Return the announcement of the runs, how they are trained, and how long they should take."""
    text = f"{announcement(planned)}; {pool.describe()}"
    estimates = [cell.estimate_s for cell in planned.pending if cell.estimate_s is not None]
    if estimates:
        mean_s = sum(estimates) / len(estimates)
        text += f"; about {console.duration(mean_s * len(planned.pending) / max(1, pool.at_once))}"
    return text
