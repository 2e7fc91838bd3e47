"""What a sweep is to do: its runs, where each stands, and what cannot be done, before anything is trained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.run_store.find import of_format_1
from cnnbench.run_store.run import DONE, Run
from cnnbench.settings import compose
from cnnbench.settings.identity import other_code
from cnnbench.settings.parse import parse
from cnnbench.settings.run import Settings, Sweep
from cnnbench.sweeps.composer import Composer

SHOWN = 8
"""Refusals that are listed one by one."""

Overrides = tuple[str, ...]


@dataclass(eq=False)
class Cell:
    """One run of a sweep.

    Attributes:
        overrides: of the first point of the sweep that is this run.
        state: when the sweep was planned; see `Run.state`.
        tries: how many attempts this sweep has made at it.
        estimate_s: how long what is left of it should take; None if there is nothing to tell it from.
    """

    overrides: Overrides
    settings: Settings
    run: Run
    state: str
    tries: int = 0
    estimate_s: float | None = None

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return self.state not in DONE or self.settings.force


@dataclass(frozen=True)
class Plan:
    """All runs of a sweep.

    Attributes:
        points: for each of the overrides that were asked for, its run; None where it was refused.
        refused: what cannot be run, and why.
    """

    points: Sequence[Cell | None]
    sweep: Sweep
    refused: dict[Overrides, str] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """The runs, each once."""
        return list(dict.fromkeys(cell for cell in self.points if cell is not None))

    @property
    def pending(self) -> list[Cell]:
        """The runs that are not done."""
        return [cell for cell in self.cells if cell.pending]


def plan(
    points: Sequence[Sequence[str]],
    loader: ConfigLoader,
    master: DictConfig,
    locate: Callable[[Settings], Run],
) -> Plan:
    """Find out what is to be done.

    Args:
        points: the overrides of each run.
        loader: Hydra's.
        master: the configuration of the sweep itself.
        locate: from settings to the run's folder.

    Raises:
        InputError: no run can be made, or an axis that does not change the run. Runs that are refused
            among others that are not are in the plan.
    """
    composer = Composer(loader, master)
    config_name = str(master.hydra.job.config_name)
    found: list[Cell | None] = []
    cells: dict[Path, Cell] = {}
    refused: dict[Overrides, str] = {}
    for overrides in console.progress(map(tuple, points), "reading the sweep", len(points)):
        try:
            try:
                command = compose.command(overrides, master.hydra)
                settings = parse(composer(overrides)).model_copy(update={"command": command})
                run = locate(settings)
            except InputError:
                raise
            except Exception as error:  # Hydra, OmegaConf and YAML raise many kinds for what was typed
                raise InputError(compose.explain(error, config_name, list(overrides))) from error
        except InputError as error:
            refused[overrides] = str(error)
            found.append(None)
            continue
        if run.path not in cells:
            cells[run.path] = Cell(overrides, settings, run, run.state)
        found.append(cells[run.path])
    check_axes([tuple(overrides) for overrides in points], found)
    if not cells:
        raise InputError(refusal(refused, len(points)))
    return Plan(found, next(iter(cells.values())).settings.sweep, refused)


def check_axes(points: Sequence[Overrides], found: Sequence[Cell | None]) -> None:
    """Refuse what would make the sweep look larger than it is.

    Raises:
        InputError: a point that is asked for twice, or an axis whose values are all the same run.
    """
    twice = [overrides for overrides, n in Counter(points).items() if n > 1]
    if twice:
        raise InputError(f"a run is asked for twice in one sweep: {' '.join(twice[0])}")
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for overrides in points:
        for text in overrides:
            values[text.partition("=")[0]][text] = None
    for axis, texts in values.items():
        if len(texts) < 2:
            continue
        groups: dict[Overrides, list[Cell | None]] = defaultdict(list)
        for overrides, cell in zip(points, found, strict=True):
            groups[tuple(text for text in overrides if text.partition("=")[0] != axis)].append(cell)
        compared = [group for group in groups.values() if len(group) > 1 and None not in group]
        if compared and all(len(set(group)) == 1 for group in compared):
            swept = ",".join(text.partition("=")[2] for text in texts)
            raise InputError(
                f"{axis}={swept}: does not change the run: with each of these values it is one and the same; "
                "allowed: values that differ"
            )


def refusal(refused: dict[Overrides, str], total: int) -> str:
    """What is wrong with the runs that are refused, each reason once."""
    reasons: dict[str, list[Overrides]] = defaultdict(list)
    for overrides, reason in refused.items():
        reasons[reason].append(overrides)
    if len(reasons) == 1 and len(refused) == total:
        return next(iter(reasons))
    common = set.intersection(*(set(overrides) for overrides in refused)) if len(refused) > 1 else set()
    lines = [f"{len(refused)} of {total} runs cannot be made"]
    for reason, where in list(reasons.items())[:SHOWN]:
        example = " ".join(text for text in where[0] if text not in common)
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        lines.append(f"  {reason}\n    ({example}{more})")
    if len(reasons) > SHOWN:
        lines.append(f"  and {len(reasons) - SHOWN} more reasons")
    return "\n".join(lines)


def announcement(plan: Plan) -> str:
    """`24 runs: 10 done, 2 to resume, 1 failed, 11 new`."""
    states = Counter("done" if not cell.pending else cell.state for cell in plan.cells)
    words = {"interrupted": "to resume", "running": "running elsewhere"}
    order = ("done", "interrupted", "pruned", "failed", "damaged", "running", "new", *DONE)
    parts = [f"{states[state]} {words.get(state, state)}" for state in order if states[state]]
    if plan.refused:
        parts.append(f"{len(plan.refused)} left out")
    runs = len(plan.cells)
    text = f"{runs} run{'s' * (runs != 1)}: {', '.join(parts)}"
    shared = sum(cell is not None for cell in plan.points) - runs
    if shared:
        text += f" (combinations that come to the same run: {shared})"
    otherwise = Counter(cell.settings.made_otherwise(cell.run) for cell in plan.cells if not cell.pending)
    del otherwise[""]
    notes = [f"; {count} of those done {how}" for how, count in otherwise.items()]
    edited = sum(bool(other_code(cell.settings, cell.run)) for cell in plan.cells if not cell.pending)
    notes += [f"; {edited} of those done by other code of cnnbench"] if edited else []
    labels = {(cell.run.path.parent, cell.settings.label) for cell in plan.cells}
    earlier = sum(len(of_format_1(folder, label)) for folder, label in sorted(labels))
    notes += [f"; {earlier} of format 1 beside them, which are not reused"] if earlier else []
    return text + "".join(notes)
