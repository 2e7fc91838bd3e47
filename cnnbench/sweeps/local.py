"""Runs side by side on this machine, which share its cores and GPUs without overlap."""

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
from cnnbench.sweeps.pool import Job, Outcome, run_preflight

PER_RUN_S = 2.0
"""Estimated time of a run outside its epochs."""


@dataclass(frozen=True)
class Allocation:
    """The cores and GPUs of one run.

    Attributes:
        cores: for all its processes.
        gpus: names for CUDA_VISIBLE_DEVICES.
    """

    cores: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Machine:
    """The cores and GPUs that runs share.

    Attributes:
        cores: of the machine.
        gpus: names for CUDA_VISIBLE_DEVICES, each as often as runs may share it.
        jobs: runs at a time.
        threads: of each process of a run, unless the run sets its own number.
    """

    cores: int
    gpus: tuple[str, ...]
    jobs: int
    threads: int

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
        """Divide a machine among the runs of a sweep.

        Args:
            cores: available to this process.
            gpus: available to this process.
            sweep: settings of the sweep: `jobs` and `jobs_per_gpu`.
            runs: of the complete sweep, including those that are done, so that a relaunch gives new runs as
                many threads as the first launch would have.
            accelerated: the runs use a GPU.
            processes: the largest number of processes that train a run together.
        """
        gpu_slots = tuple(name for _ in range(sweep.jobs_per_gpu) for name in gpus)
        slots = len(gpu_slots) if accelerated else cores
        jobs = max(1, min(sweep.jobs or cores, slots // processes, cores // processes, runs))
        return cls(cores, gpu_slots, jobs, max(1, cores // (jobs * processes)))

    def allocate(
        self, taken: Sequence[Allocation], cores: int, *, accelerated: bool, processes: int = 1
    ) -> Allocation | None:
        """Return the cores and GPUs of one more run; None if there is no room for it now.

        A run that wants more cores than the machine has gets all of them, alone.

        Args:
            taken: by other runs.
            cores: for all processes of the run.
            accelerated: the run uses a GPU.
            processes: of the run, each on a GPU of its own.
        """
        if taken and (
            len(taken) >= self.jobs or sum(allocation.cores for allocation in taken) + cores > self.cores
        ):
            return None
        if not accelerated:
            return Allocation(cores)
        if not self.gpus:
            return None if taken else Allocation(cores)  # Apple's GPU: one run at a time
        free = list(self.gpus)
        for name in (name for allocation in taken for name in allocation.gpus):
            free.remove(name)
        gpus = tuple(dict.fromkeys(free))[:processes]
        return Allocation(cores, gpus) if len(gpus) == processes else None


class LocalPool:
    """A process for each run, as many at a time as the machine has room for.

    Args:
        plan: the sweep.
        batch: the most runs that a sweeper launches together. The last batch of a search may be smaller, and
            its runs must not get more cores.

    Raises:
        InputError: measurements that would run at the same time.
    """

    def __init__(self, plan: Plan, batch: int | None = None) -> None:
        if any(isinstance(cell.settings, Bench) for cell in plan.cells) and plan.sweep.jobs != 1:
            raise InputError(
                f"sweep.jobs={plan.sweep.jobs or 'null'}: measurements side by side disturb each other; "
                "allowed: 1"
            )
        self.running: dict[Cell, tuple[Child, Allocation]] = {}
        self.pending = plan.pending
        cores, runs = cpu_cores(), max(len(plan.cells), batch or 0)
        # Of all runs, not only the pending ones: these are to be trained like the others.
        processes = max(cell.settings.device.devices for cell in plan.cells)
        cpu_only = Machine.of(cores, (), plan.sweep, runs, accelerated=False, processes=processes)
        self.report = run_preflight(self.pending, cpu_only.threads, here=True)
        for i, seconds in self.report.epoch_s.items():
            cell = self.pending[i]
            epochs = cell.settings.trainer.max_epochs - len(cell.run.rows())
            cell.estimate_s = PER_RUN_S + max(0, epochs) * seconds
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else list(map(str, range(self.report.gpus)))
        self.accelerated = any(map(self._accelerated, plan.cells))
        self.machine = Machine.of(
            cores, gpus, plan.sweep, runs, accelerated=self.accelerated, processes=processes
        )

    @property
    def at_once(self) -> int:
        """Number of runs that are trained at a time."""
        return self.machine.jobs

    def describe(self) -> str:
        """Return `2 at a time, 1 thread each`."""
        jobs, threads = self.machine.jobs, self.machine.threads
        if jobs == 1:
            return "one at a time"
        gpus = f" on {len(set(self.machine.gpus))} GPUs" if self.accelerated and self.machine.gpus else ""
        return f"{jobs} at a time{gpus}, {threads} thread{'s' * (threads > 1)} each"

    def refused(self) -> Mapping[Cell, str]:
        """Return the pending runs that the preflight found impossible, with the reason."""
        return {self.pending[i]: error for i, error in self.report.errors.items()}

    def start(self, cell: Cell) -> bool:
        """Start a run if enough cores, and GPUs if it uses any, are free."""
        recorded = cell.run.status().get("device", {}) if cell.tries or not cell.settings.force else {}
        device = cell.settings.device
        cores = recorded.get("threads") or device.threads or self.machine.threads
        allocation = self.machine.allocate(
            [allocation for _, allocation in self.running.values()],
            cores * device.devices,
            accelerated=self._accelerated(cell),
            processes=device.devices,
        )
        if allocation is None:
            return False
        child = Child(
            "cnnbench.sweeps.worker:work",
            Job.of(cell, cores),
            environment={"CUDA_VISIBLE_DEVICES": ",".join(allocation.gpus)} if allocation.gpus else None,
        )
        self.running[cell] = child, allocation
        return True

    def _accelerated(self, cell: Cell) -> bool:
        """Return whether a run uses a GPU."""
        accelerator = cell.settings.device.accelerator
        has_gpu = bool(self.report.gpus or self.report.mps)
        return accelerator in ("gpu", "mps") or (accelerator == "auto" and has_gpu)

    def submit(self) -> None:
        """Do nothing, since `start` starts a run at once."""

    def ended(self) -> list[tuple[Cell, Outcome]]:
        """Return the runs that have ended since the last call."""
        outcomes = []
        for cell in [cell for cell, (child, _) in self.running.items() if child.ended]:
            child, _ = self.running.pop(cell)
            try:
                outcomes.append((cell, child.answer()))
            except Died as death:
                outcomes.append((cell, Outcome("died", str(death))))
        return outcomes

    def close(self) -> None:
        """Interrupt the running runs. Each saves its state, and resumes when it is launched again."""
        deadline = time.monotonic() + GRACE_S
        for child, _ in self.running.values():
            child.terminate()
        for child, _ in self.running.values():
            child.kill_after(deadline)
