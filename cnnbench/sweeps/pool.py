"""What carries out the runs of a sweep, and what is said between the two. Needs no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self

from cnnbench import console
from cnnbench.errors import Interrupted
from cnnbench.processes.forked import Child, Died
from cnnbench.settings.run import Settings
from cnnbench.sweeps.plan import Cell


@dataclass(frozen=True)
class Job:
    """What a worker is told.

    Attributes:
        path: the run's folder.
        cores: how many of the machine's cores each of the run's processes may use; None: its share of all.
        planned: see `Run`.
    """

    settings: Settings
    path: Path
    cores: int | None
    planned: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, cell: Cell, cores: int | None = None) -> Self:
        """The job of a cell; `force` is for the first attempt at it, the next one goes on."""
        job = cls(cell.settings, cell.run.path.absolute(), cores, cell.run.planned)
        return job.again() if cell.tries else job

    def again(self) -> Self:
        """The job of a later attempt."""
        return replace(self, settings=self.settings.model_copy(update={"force": False}))


@dataclass(frozen=True)
class Outcome:
    """How one attempt at a run ended.

    Attributes:
        kind: `ended` (the run's folder says how), `busy` (another process trains it), `refused` (bad input),
            `failed`, `interrupted` or `died` (its process was killed).
        reason: one line; empty for what ended well.
    """

    kind: str
    reason: str = ""


@dataclass
class Report:
    """What trying the models, the data and the recipes of runs has shown.

    Attributes:
        errors: by index of the run, why it cannot be made.
        epoch_s: by index, seconds that an epoch should take; absent where it cannot be told.
        gpus: how many there are.
        mps: whether Apple's GPU is there.
    """

    errors: dict[int, str] = field(default_factory=dict)
    epoch_s: dict[int, float] = field(default_factory=dict)
    gpus: int = 0
    mps: bool = False


class Pool(Protocol):
    """Where runs are trained: processes of this machine, a cluster."""

    @property
    def at_once(self) -> int:
        """How many runs are carried out at a time; 0 if that is not known."""

    def describe(self) -> str:
        """How the runs are carried out, in half a line: `2 at a time, 1 thread each`."""

    def refused(self) -> Mapping[Cell, str]:
        """The pending runs that cannot be made, and why: tried before any is started."""

    def start(self, cell: Cell) -> bool:
        """Start a run; False: there is no room now."""

    def submit(self) -> None:
        """Called after one or several starts."""

    def ended(self) -> list[tuple[Cell, Outcome]]:
        """The runs that ended since this was last asked."""

    def close(self) -> None:
        """Let go of everything; a run that is going on here ends, and goes on when it is asked for again."""


def examined(cells: Sequence[Cell], cores: int, *, here: bool) -> Report:
    """Try the models, the data and the recipes of runs, in a process of their own.

    Args:
        cells: the runs.
        cores: how many each of them will have.
        here: they will be trained on this machine, with its devices and its data.
    """
    settings = [cell.settings for cell in cells]
    child = Child("cnnbench.sweeps.preflight:check", settings, cores, here, captured=False)
    try:
        found: Report = child.answer()
    except Died as death:  # of one of the models, perhaps: its run will show it
        console.console.print(f"models and data could not be tried beforehand: {death}", style="yellow")
        return Report()
    except Interrupted:
        child.terminate()
        child.kill_after(time.monotonic() + 1)
        raise
    return found
