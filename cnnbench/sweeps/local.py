"""Runs side by side on this machine: cores and GPUs are shared out and never taken twice."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores
from cnnbench.processes.forked import GRACE_S, Child, Died
from cnnbench.settings.bench import Bench
from cnnbench.settings.run import Sweep
from cnnbench.sweeps.plan import Cell, Plan
from cnnbench.sweeps.pool import Job, Outcome, examined

PER_RUN_S = 2.0
"""Of a run: what is not training."""


@dataclass(frozen=True)
class Place:
    """What a run has of the machine: cores, and the GPUs that it sees."""

    cores: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """What there is to be shared out.

    Attributes:
        gpus: their names for CUDA_VISIBLE_DEVICES, each as often as runs may share it.
        jobs: runs at a time.
        share: the cores of each process of a run that asks for no number of threads.
    """

    cores: int
    gpus: tuple[str, ...]
    jobs: int
    share: int

    @classmethod
    def of(
        cls,
        cores: int,
        gpus: Sequence[str],
        sweep: Sweep,
        runs: int,
        *,
        accelerated: bool,
        processes: int = 1,
    ) -> Machine:
        """Divide the machine.

        Args:
            cores: that this process may use.
            gpus: that it may use.
            sweep: how many runs at a time were asked for.
            runs: how many there are in the whole sweep, and not in what is left of it: one that is relaunched
                gives its new runs as many threads as it would have given them at first.
            accelerated: they are computed on a GPU.
            processes: that train a run together, in the run that has the most.
        """
        places = tuple(name for _ in range(sweep.jobs_per_gpu) for name in gpus)
        room = len(places) if accelerated else cores
        jobs = max(1, min(sweep.jobs or cores, room // processes, cores // processes, runs))
        return cls(cores, places, jobs, max(1, cores // (jobs * processes)))

    def place(
        self, taken: Sequence[Place], cores: int, *, accelerated: bool, processes: int = 1
    ) -> Place | None:
        """Room for one more run beside those that have `taken` theirs; None if there is none now.

        A run that wants more cores than there are is given all of them, alone.

        Args:
            taken: by other runs.
            cores: that the run wants, for all its processes.
            accelerated: it is computed on a GPU.
            processes: how many it has, each on a GPU of its own.
        """
        if taken and (len(taken) >= self.jobs or sum(place.cores for place in taken) + cores > self.cores):
            return None
        if not accelerated:
            return Place(cores)
        if not self.gpus:
            return None if taken else Place(cores)  # Apple's GPU: one at a time
        free = list(self.gpus)
        for name in (name for place in taken for name in place.gpus):
            free.remove(name)
        mine = tuple(dict.fromkeys(free))[:processes]
        return Place(cores, mine) if len(mine) == processes else None


class Local:
    """A process for each run, as many at a time as there is room for.

    Args:
        plan: the sweep.
        batch: how many runs it might have had: the last of a search are fewer, and not to be given more each.
    """

    def __init__(self, plan: Plan, batch: int | None = None) -> None:
        if any(isinstance(cell.settings, Bench) for cell in plan.cells) and plan.sweep.jobs != 1:
            raise InputError(
                f"sweep.jobs={plan.sweep.jobs or 'null'}: measurements side by side disturb each other; "
                "allowed: 1"
            )
        self.running: dict[Cell, tuple[Child, Place]] = {}
        self.pending = plan.pending
        cores, runs = cpu_cores(), max(len(plan.cells), batch or 0)
        # Of the whole sweep: what is left of it is to be trained as the rest was.
        processes = max(cell.settings.device.devices for cell in plan.cells)
        without = Machine.of(cores, (), plan.sweep, runs, accelerated=False, processes=processes)
        self.report = examined(self.pending, without.share, here=True)
        for i, seconds in self.report.epoch_s.items():
            cell = self.pending[i]
            left = cell.settings.trainer.max_epochs - len(cell.run.rows())
            cell.estimate_s = PER_RUN_S + max(0, left) * seconds
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else list(map(str, range(self.report.gpus)))
        self.accelerated = any(map(self._accelerated, plan.cells))
        self.machine = Machine.of(
            cores, gpus, plan.sweep, runs, accelerated=self.accelerated, processes=processes
        )

    @property
    def at_once(self) -> int:
        """How many runs are carried out at a time."""
        return self.machine.jobs

    def describe(self) -> str:
        """`2 at a time, 1 thread each`."""
        jobs, share = self.machine.jobs, self.machine.share
        if jobs == 1:
            return "one at a time"
        where = f" on {len(set(self.machine.gpus))} GPUs" if self.accelerated and self.machine.gpus else ""
        return f"{jobs} at a time{where}, {share} thread{'s' * (share > 1)} each"

    def refused(self) -> Mapping[Cell, str]:
        """The pending runs that cannot be made, and why."""
        return {self.pending[i]: error for i, error in self.report.errors.items()}

    def start(self, cell: Cell) -> bool:
        """Start a run if there are cores, and a GPU if it needs one, that no other run has."""
        recorded = cell.run.status().get("device", {}) if cell.tries or not cell.settings.force else {}
        device = cell.settings.device
        cores = recorded.get("threads") or device.threads or self.machine.share
        taken = [place for _, place in self.running.values()]
        place = self.machine.place(
            taken,
            cores * device.devices,
            accelerated=self._accelerated(cell),
            processes=device.devices,
        )
        if place is None:
            return False
        child = Child(
            "cnnbench.sweeps.worker:work",
            Job.of(cell, cores),
            environment={"CUDA_VISIBLE_DEVICES": ",".join(place.gpus)} if place.gpus else None,
        )
        self.running[cell] = child, place
        return True

    def _accelerated(self, cell: Cell) -> bool:
        """Whether a run is computed on a GPU."""
        asked = cell.settings.device.accelerator
        return asked in ("gpu", "mps") or (asked == "auto" and bool(self.report.gpus or self.report.mps))

    def submit(self) -> None:
        """Nothing to do: what was started runs."""

    def ended(self) -> list[tuple[Cell, Outcome]]:
        """The runs that ended since this was last asked."""
        found = []
        for cell in [cell for cell, (child, _) in self.running.items() if child.ended]:
            child, _ = self.running.pop(cell)
            try:
                found.append((cell, child.answer()))
            except Died as death:
                found.append((cell, Outcome("died", str(death))))
        return found

    def close(self) -> None:
        """End what is running: each run writes where it stands, and goes on when it is asked for again."""
        deadline = time.monotonic() + GRACE_S
        for child, _ in self.running.values():
            child.terminate()
        for child, _ in self.running.values():
            child.kill_after(deadline)
