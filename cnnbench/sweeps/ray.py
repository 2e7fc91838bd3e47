"""Runs on a Ray cluster, or on a local Ray of this machine."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores
from cnnbench.processes.forked import GRACE_S, Child, Died
from cnnbench.settings.base import Count, Section, options
from cnnbench.sweeps.plan import Cell, Plan
from cnnbench.sweeps.pool import Job, Outcome, run_preflight

CONNECT_S = 10.0


class RayOptions(Section):
    """Settings of `hydra/launcher=ray` (`hydra.launcher`), which its file documents."""

    address: str | None
    cpus_per_run: Count | None
    gpus_per_run: Annotated[float, Field(ge=0)] | None
    resources: dict[str, Annotated[float, Field(gt=0)]]


class RayPool:
    """A Ray task for each run, which trains it in a process of its own.

    Args:
        plan: the sweep.
        given: `hydra.launcher`.

    Raises:
        InputError: the cluster does not answer, or has no node with the resources of a run.
    """

    def __init__(self, plan: Plan, given: Mapping[str, Any]) -> None:
        self.options = options(RayOptions, given, "hydra.launcher")
        self.pending = plan.pending
        self.limit = plan.sweep.jobs
        self.running: dict[Any, Cell] = {}
        self.report = run_preflight(self.pending, cores=1, here=False)
        self.ray = _connect(self.options.address)
        try:
            self.gpus = self.ray.cluster_resources().get("GPU", 0)
            self._check_resources()
        except BaseException:
            self.ray.shutdown()
            raise
        self.task = self.ray.remote(max_retries=0)(carry_out)

    def _check_resources(self) -> None:
        """Check that some node of the cluster has the resources of each run.

        Raises:
            InputError: no node has.
        """
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for cell in self.pending:
            cell.settings.device.check_one_machine()
            resources = self._resources(cell)
            wanted = {"CPU": resources["num_cpus"], "GPU": resources["num_gpus"], **resources["resources"]}
            for name, amount in wanted.items():
                most = max(node.get(name, 0) for node in nodes)
                if amount > most:
                    setting = {"CPU": "cpus_per_run", "GPU": "gpus_per_run"}.get(name, f"resources.{name}")
                    raise InputError(
                        f"hydra.launcher.{setting}={amount:g}: no node of the cluster has that many; "
                        f"allowed: at most {most:g}"
                    )

    def _resources(self, cell: Cell) -> dict[str, Any]:
        """Return the options of a run's task that reserve its resources."""
        device = cell.settings.device
        gpus = self.options.gpus_per_run
        if gpus is None:
            accelerated = device.accelerator == "gpu" or (device.accelerator == "auto" and self.gpus)
            gpus = device.devices if accelerated else 0
        return {
            "num_cpus": self._cores(cell) * device.devices,
            "num_gpus": gpus,
            "resources": self.options.resources,
        }

    def _cores(self, cell: Cell) -> int:
        """Return the cores, and so the threads, of each of a run's processes."""
        recorded = cell.run.status().get("device", {}).get("threads")
        return int(recorded or self.options.cpus_per_run or cell.settings.device.threads or 1)

    @property
    def at_once(self) -> int:
        """0 for unknown: the cluster decides."""
        return 0

    def describe(self) -> str:
        """Return `on a Ray cluster of 2 nodes with 4 cores`."""
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        cores = sum(node["Resources"].get("CPU", 0) for node in alive)
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        return f"on a Ray cluster of {len(alive)} node{'s' * (len(alive) > 1)} with {cores:g} cores{gpus}"

    def refused(self) -> Mapping[Cell, str]:
        """Return the pending runs that the preflight found impossible, with the reason."""
        return {self.pending[i]: error for i, error in self.report.errors.items()}

    def start(self, cell: Cell) -> bool:
        """Submit a run's task, unless `sweep.jobs` runs are submitted already."""
        if self.limit and len(self.running) >= self.limit:
            return False
        task = self.task.options(name=cell.run.path.name, **self._resources(cell))
        reference = task.remote(Job.of(cell, self._cores(cell)), str(Path.cwd()), _environment())
        self.running[reference] = cell
        return True

    def submit(self) -> None:
        """Do nothing, since `start` submits a run's task at once."""

    def ended(self) -> list[tuple[Cell, Outcome]]:
        """Return the runs that have ended since the last call."""
        if not self.running:
            return []
        unfinished = list(self.running)
        ready, _ = self.ray.wait(unfinished, num_returns=len(unfinished), timeout=0)
        return [(self.running.pop(reference), self._outcome(reference)) for reference in ready]

    def _outcome(self, reference: Any) -> Outcome:
        try:
            result = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            return Outcome("died", f"{type(error).__name__}: {lines[0] if lines else ''}")
        return result if isinstance(result, Outcome) else Outcome("failed", f"the task returned {result!r}")

    def close(self) -> None:
        """Interrupt the running runs. Each saves its state, and resumes when it is launched again."""
        for reference in self.running:
            self.ray.cancel(reference, force=False)
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=GRACE_S)
        self.ray.shutdown()


def carry_out(job: Job, folder: str, environment: Mapping[str, str]) -> Outcome:
    """Train a run from within a Ray worker, in a process as warm and isolated as those of `LocalPool`.

    Args:
        job: the run.
        folder: working folder of the driver.
        environment: environment variables to add.
    """
    os.chdir(folder)
    child = Child("cnnbench.sweeps.worker:work", job, environment=environment)
    try:
        while not child.ended:
            time.sleep(0.05)
        return child.answer()  # type: ignore[no-any-return]
    except Died as death:
        return Outcome("died", str(death))
    except BaseException:  # the task was cancelled
        child.terminate()
        child.kill_after(time.monotonic() + GRACE_S)
        raise


def _environment() -> dict[str, str]:
    """Return the variables that runs need from this process, since Ray's workers have the cluster's."""
    prefixes = ("CNNBENCH_", "WANDB_")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def _connect(address: str | None) -> Any:
    """Connect to a cluster, or start a local Ray for None; return the module `ray`.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray
    except ImportError:
        raise InputError(
            "hydra/launcher=ray: Ray is not installed; run `pip install 'cnnbench[ray]'`"
        ) from None
    setting = f"hydra.launcher.address={address}"
    _check_reachable(address, setting)
    path = os.environ.get("PYTHONPATH")
    options: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}} if path else {}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "num_cpus": cpu_cores()}
    else:
        options |= {"address": address}
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except Exception as error:  # Ray raises many kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{setting}: no Ray cluster answers ({lines[0]})") from None
    return ray


def _check_reachable(address: str | None, setting: str) -> None:
    """Check that a server listens at the address, since Ray itself would try for a minute.

    Raises:
        InputError: none does, or the address is invalid.
    """
    if address in (None, "auto", "local"):
        return
    assert address is not None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{setting}: allowed: auto, host:port, ray://host:port, null")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise InputError(f"{setting}: nothing answers there ({error.strerror or error})") from None
