"""The interface between the driver of a sweep and the pool that trains its runs. Needs no torch."""

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
    """A run to train, as it is sent to a worker. Queued SLURM and Ray jobs pickle it.

    Attributes:
        settings: of the run.
        path: the run's folder.
        cores: CPU cores for each of the run's processes; None for an equal share of the machine's.
        planned: the choice that its settings came to; see `Run`.
    """

    settings: Settings
    path: Path
    cores: int | None
    planned: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, cell: Cell, cores: int | None = None) -> Self:
        """Return the job of a cell; only its first attempt is subject to `force`."""
        job = cls(cell.settings, cell.run.path.absolute(), cores, cell.run.planned)
        return job.again() if cell.tries else job

    def again(self) -> Self:
        """Return the job of a later attempt, which resumes the run."""
        return replace(self, settings=self.settings.model_copy(update={"force": False}))


@dataclass(frozen=True)
class Outcome:
    """The end of one attempt at a run.

    Attributes:
        kind: `ended` (the state is in the run's folder), `busy` (another process trains the run), `refused`
            (invalid input), `failed`, `interrupted`, or `died` (its process was killed).
        reason: one line; empty for `ended`.
    """

    kind: str
    reason: str = ""


@dataclass
class PreflightReport:
    """Result of the preflight of several runs.

    Attributes:
        errors: why a run is impossible, by its index.
        epoch_s: estimated seconds for an epoch, by index; absent if there is no estimate.
        gpus: number of GPUs of this machine.
        mps: True if this machine has Apple's GPU.
    """

    errors: dict[int, str] = field(default_factory=dict)
    epoch_s: dict[int, float] = field(default_factory=dict)
    gpus: int = 0
    mps: bool = False


class Pool(Protocol):
    """A place to train runs: processes of this machine, or a cluster."""

    @property
    def at_once(self) -> int:
        """Number of runs that are trained at a time; 0 if unknown."""

    def describe(self) -> str:
        """Return how runs are trained, for the announcement: `2 at a time, 1 thread each`."""

    def refused(self) -> Mapping[Cell, str]:
        """Return the pending runs that the preflight found impossible, with the reason."""

    def start(self, cell: Cell) -> bool:
        """Start a run; return False if there is no room for it now."""

    def submit(self) -> None:
        """Submit the runs started since the last call, if the pool submits several together."""

    def ended(self) -> list[tuple[Cell, Outcome]]:
        """Return the runs that have ended since the last call."""

    def close(self) -> None:
        """Release everything. A run on this machine is interrupted, and resumes when it is launched again."""


def run_preflight(cells: Sequence[Cell], cores: int, *, here: bool) -> PreflightReport:
    """Test the models, data and training recipes of runs, in a separate process.

    Args:
        cells: the runs.
        cores: CPU cores for each run.
        here: True if they will be trained on this machine, so that its devices and data are tested, too.

    Raises:
        Interrupted: a signal arrived meanwhile.
    """
    settings = [cell.settings for cell in cells]
    child = Child("cnnbench.sweeps.preflight:check", settings, cores, here, captured=False)
    try:
        report: PreflightReport = child.answer()
    except Died as death:  # perhaps because of one of the models, whose own run will then show it
        console.console.print(f"the preflight of models and data did not finish: {death}", style="yellow")
        return PreflightReport()
    except Interrupted:
        child.terminate()
        child.kill_after(time.monotonic() + 1)
        raise
    return report
