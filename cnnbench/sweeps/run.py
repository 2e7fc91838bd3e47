"""A sweep from its overrides to the values of its runs."""

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
from cnnbench.sweeps.progress_view import View


def sweep(
    points: Sequence[Sequence[str]],
    loader: ConfigLoader,
    master: DictConfig,
    locate: Callable[[Settings], Run],
    pool_for: Callable[[Plan], Pool],
    note: Callable[[Cell, str], None],
    watch: Callable[[Course], None] | None = None,
) -> Plan:
    """Carry a sweep out, as far as it is not done already.

    Args:
        points: the overrides of each run.
        loader: Hydra's.
        master: the configuration of the sweep itself.
        locate: from settings to the run's folder.
        pool_for: makes what trains the runs; only called if there is something to be done.
        note: is told of each run, and told again, with the reason, of those that failed.
        watch: is shown again and again how things stand.

    Raises:
        InputError: before anything is trained.
        Interrupted: what was running goes on when it is asked for again.
    """
    found = plan(points, loader, master, locate)
    _refuse(found)
    if not found.pending:
        console.console.print(announcement(found), highlight=False)
        for cell in found.cells:
            note(cell, "")
        return found
    with console.console.status("starting: trying models and data"):
        pool = pool_for(found)
    try:
        if refused := pool.refused():
            found = _without(found, refused)
            _refuse(replace(found, refused={cell.overrides: reason for cell, reason in refused.items()}))
        _keep(master, found)
        console.console.print(_opening(found, pool), highlight=False)
        for cell in found.cells:
            note(cell, "")
        with View(found, pool.at_once) as view:
            watchers = [view.changed, *([watch] if watch else [])]
            course = drive(found, pool, watchers, view.ended)
        for cell, outcome in course.results.items():
            note(cell, outcome.reason)
        for cell in course.waiting:
            note(cell, "not started: another run failed")
        return found
    finally:
        pool.close()


def _refuse(found: Plan) -> None:
    """Stop, or say what is left out."""
    if not found.refused:
        return
    said = refusal(found.refused, len(found.points))
    if not found.cells:
        raise InputError(said)
    if found.sweep.on_refused == "stop":
        raise InputError(f"{said}\n  nothing was started; sweep.on_refused=skip goes on with the others")
    console.console.print(f"left out: {said}", style="yellow", highlight=False, soft_wrap=True)


def _without(found: Plan, refused: Mapping[Cell, str]) -> Plan:
    return replace(
        found,
        points=[None if cell in refused else cell for cell in found.points],
        refused=found.refused | {cell.overrides: reason for cell, reason in refused.items()},
    )


def _keep(master: DictConfig, found: Plan) -> None:
    """Write down what was asked for, beside the runs."""
    folder = found.cells[0].run.path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "multirun.yaml", OmegaConf.to_yaml(master))
    except OSError as error:
        raise InputError(f"output_dir: {folder} cannot be written ({error.strerror})") from None


def _opening(found: Plan, pool: Pool) -> str:
    text = f"{announcement(found)}; {pool.describe()}"
    known = [cell.estimate_s for cell in found.pending if cell.estimate_s is not None]
    if known:
        seconds = sum(known) / len(known) * len(found.pending) / max(1, pool.at_once)
        text += f"; about {console.duration(seconds)}"
    return text
