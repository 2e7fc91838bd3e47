"""The plan of a sweep, before anything is trained: its runs, the state of each, and invalid overrides."""

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
"""Reasons for refused runs that are listed one by one."""

Overrides = tuple[str, ...]


@dataclass(eq=False)
class Cell:
    """One run of a sweep.

    Attributes:
        overrides: of the first point of the sweep that gives this run.
        settings: of the run.
        run: its folder.
        state: `Run.state` when the sweep was planned.
        lacking: probes that the run was finished without.
        tries: attempts of this sweep so far.
        estimate_s: seconds that the rest of the run should take; None if there is no estimate.
    """

    overrides: Overrides
    settings: Settings
    run: Run
    state: str
    lacking: Sequence[str] = ()
    tries: int = 0
    estimate_s: float | None = None

    @property
    def pending(self) -> bool:
        """True unless the run is done, with all probes that are asked for."""
        return self.state not in DONE or self.settings.force or bool(self.lacking)


def is_done(cell: Cell) -> bool:
    """Return whether a run is done by now, with all probes that are asked for."""
    return cell.run.state in DONE and not cell.settings.lacking(cell.run)


@dataclass(frozen=True)
class Plan:
    """All runs of a sweep.

    Attributes:
        points: the run of each point of the sweep; None if it was refused.
        sweep: settings of the sweep itself.
        refused: why a point cannot be run, by its overrides.
    """

    points: Sequence[Cell | None]
    sweep: Sweep
    refused: dict[Overrides, str] = field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """The distinct runs."""
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
    """Plan a sweep: compose and check the settings of its runs, and look up their states.

    Args:
        points: the overrides of each point of the sweep.
        loader: Hydra's config loader.
        master: the sweep's own config.
        locate: returns the run of given settings.

    Raises:
        InputError: no point is valid, or the sweep repeats a run; see `check_axes`.
    """
    composer = Composer(loader, master)
    config_name = str(master.hydra.job.config_name)
    planned: list[Cell | None] = []
    cells: dict[Path, Cell] = {}
    refused: dict[Overrides, str] = {}
    for overrides in console.progress(map(tuple, points), "composing the sweep", len(points)):
        try:
            try:
                command = compose.command(overrides, master.hydra)
                settings = parse(composer(overrides)).model_copy(update={"command": command})
                run = locate(settings)
            except InputError:
                raise
            except Exception as error:  # Hydra, OmegaConf and YAML raise many kinds for invalid overrides
                raise InputError(compose.explain(error, config_name, list(overrides))) from error
        except InputError as error:
            refused[overrides] = str(error)
            planned.append(None)
            continue
        if run.path not in cells:
            cells[run.path] = Cell(overrides, settings, run, run.state, settings.lacking(run))
        planned.append(cells[run.path])
    check_axes([tuple(overrides) for overrides in points], planned)
    if not cells:
        raise InputError(refusal(refused, len(points)))
    return Plan(planned, next(iter(cells.values())).settings.sweep, refused)


def check_axes(points: Sequence[Overrides], cells: Sequence[Cell | None]) -> None:
    """Check that the sweep is as large as it looks.

    Args:
        points: the overrides of each point of the sweep.
        cells: the run of each point; None if it was refused.

    Raises:
        InputError: a point occurs twice, or all values of an axis give the same run.
    """
    repeated = [overrides for overrides, n in Counter(points).items() if n > 1]
    if repeated:
        raise InputError(f"the sweep contains a run twice: {' '.join(repeated[0])}")
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for overrides in points:
        for text in overrides:
            values[text.partition("=")[0]][text] = None
    for axis, texts in values.items():
        if len(texts) < 2:
            continue
        groups: dict[Overrides, list[Cell | None]] = defaultdict(list)
        for overrides, cell in zip(points, cells, strict=True):
            groups[tuple(text for text in overrides if text.partition("=")[0] != axis)].append(cell)
        compared = [group for group in groups.values() if len(group) > 1 and None not in group]
        if compared and all(len(set(group)) == 1 for group in compared):
            swept = ",".join(text.partition("=")[2] for text in texts)
            raise InputError(
                f"{axis}={swept}: does not change the run: all these values give the same one; "
                "allowed: values that differ"
            )


def refusal(refused: dict[Overrides, str], total: int) -> str:
    """Return a message with the reasons for refused runs, each reason once.

    Args:
        refused: reasons by overrides.
        total: number of points of the sweep.
    """
    overrides_of: dict[str, list[Overrides]] = defaultdict(list)
    for overrides, reason in refused.items():
        overrides_of[reason].append(overrides)
    if len(overrides_of) == 1 and len(refused) == total:
        return next(iter(overrides_of))
    common = set.intersection(*(set(overrides) for overrides in refused)) if len(refused) > 1 else set()
    lines = [f"{len(refused)} of {total} runs cannot be built"]
    for reason, affected in list(overrides_of.items())[:SHOWN]:
        example = " ".join(text for text in affected[0] if text not in common)
        more = f" and {len(affected) - 1} more" if len(affected) > 1 else ""
        lines.append(f"  {reason}\n    ({example}{more})")
    if len(overrides_of) > SHOWN:
        lines.append(f"  and {len(overrides_of) - SHOWN} more reasons")
    return "\n".join(lines)


def announcement(plan: Plan) -> str:
    """Return `24 runs: 10 done, 2 to resume, 1 failed, 11 new`, and notes on duplicates, if any."""
    states = Counter(
        "done" if not cell.pending else "lacking" if cell.lacking else cell.state for cell in plan.cells
    )
    labels = {
        "interrupted": "to resume",
        "running": "running elsewhere",
        "lacking": "done without their probes",
    }
    order = ("done", "lacking", "interrupted", "pruned", "failed", "damaged", "running", "new", *DONE)
    counts = [f"{states[state]} {labels.get(state, state)}" for state in order if states[state]]
    if plan.refused:
        counts.append(f"{len(plan.refused)} skipped")
    runs = len(plan.cells)
    text = f"{runs} run{'s' * (runs != 1)}: {', '.join(counts)}"
    duplicates = sum(cell is not None for cell in plan.points) - runs
    if duplicates:
        text += f" (combinations that give the same run as another: {duplicates})"
    differing = Counter(cell.settings.made_otherwise(cell.run) for cell in plan.cells if not cell.pending)
    del differing[""]
    notes = [f"; {count} of those measured {how}" for how, count in differing.items()]
    edited = sum(bool(other_code(cell.settings, cell.run)) for cell in plan.cells if not cell.pending)
    notes += [f"; {edited} of those done by other code of cnnbench"] if edited else []
    labels_in: dict[Path, set[str]] = defaultdict(set)
    for cell in plan.cells:
        labels_in[cell.run.path.parent].add(cell.settings.label)
    earlier = sum(len(of_format_1(folder, names)) for folder, names in labels_in.items())
    notes += [f"; {earlier} runs of format 1 beside them, which are not reused"] if earlier else []
    return text + "".join(notes)
