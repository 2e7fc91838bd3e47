"""Runs side by side on this machine: cores and GPUs are shared out and never taken twice."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cnnbench.process import cpu_cores
from cnnbench.sweep.child import GRACE_S, Child, Died
from cnnbench.sweep.plan import Cell, Plan
from cnnbench.sweep.pool import Job, Outcome, examined

PER_RUN_S = 2.0
"""Of a run: what is not training."""


@dataclass(frozen=True)
class Place:
    """What a run has of the machine."""

    cores: int
    gpu: str | None


class Local:
    """A process for each run, as many at a time as there is room for.

    Args:
        plan: the sweep.
    """

    def __init__(self, plan: Plan) -> None:
        self.sweep = plan.sweep
        self.cores = cpu_cores()
        self.running: dict[Cell, tuple[Child, Place]] = {}
        # By the size of the whole sweep and not of what is left of it: one that is relaunched gives its new
        # runs as many threads as it would have given them at first.
        self.jobs = min(self.sweep.jobs or self.cores, self.cores, max(1, len(plan.cells)))
        self.share = self.cores // self.jobs
        self.pending = plan.pending
        self.report = examined(self.pending, self.share, here=True)
        for i, seconds in self.report.epoch_s.items():
            cell = self.pending[i]
            left = cell.settings.trainer.max_epochs - len(cell.run.rows())
            cell.estimate_s = PER_RUN_S + max(0, left) * seconds
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else map(str, range(self.report.gpus))
        self.gpus = [name for name in names for _ in range(self.sweep.jobs_per_gpu)]
        if any(map(self._accelerated, self.pending)):
            self.jobs = min(self.sweep.jobs or len(self.gpus) or 1, len(self.gpus) or 1, self.cores)

    @property
    def at_once(self) -> int:
        """How many runs are carried out at a time."""
        return self.jobs

    def describe(self) -> str:
        """`2 at a time, 1 thread each`."""
        if self.jobs == 1:
            return "one at a time"
        where = f"on {len(set(self.gpus))} GPUs" if any(map(self._accelerated, self.pending)) else "each"
        return f"{self.jobs} at a time, {self.share} thread{'s' * (self.share > 1)} {where}"

    def refused(self) -> Mapping[Cell, str]:
        """The pending runs that cannot be made, and why."""
        return {self.pending[i]: error for i, error in self.report.errors.items()}

    def start(self, cell: Cell) -> bool:
        """Start a run if there are cores, and a GPU if it needs one, that no other run has."""
        place = self._place(cell)
        if place is None:
            return False
        child = Child(
            "cnnbench.sweep.worker:work",
            Job.of(cell, place.cores),
            environment={"CUDA_VISIBLE_DEVICES": place.gpu} if place.gpu is not None else None,
        )
        self.running[cell] = child, place
        return True

    def _place(self, cell: Cell) -> Place | None:
        taken = [place for _, place in self.running.values()]
        recorded = cell.run.status().get("device", {}) if cell.tries or not cell.settings.force else {}
        cores = recorded.get("threads") or cell.settings.device.threads or self.share
        if taken and (len(taken) >= self.jobs or sum(p.cores for p in taken) + cores > self.cores):
            return None
        if not self._accelerated(cell):
            return Place(cores, None)
        free = list(self.gpus)
        for place in taken:
            if place.gpu is not None:
                free.remove(place.gpu)
        if self.gpus:
            return Place(cores, free[0]) if free else None
        return Place(cores, None) if not taken else None  # Apple's GPU: one at a time

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
