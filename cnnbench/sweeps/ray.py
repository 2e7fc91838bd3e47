"""Runs on a Ray cluster, or on a Ray of this machine."""

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
from cnnbench.sweeps.pool import Job, Outcome, examined

CONNECT_S = 10.0


class Options(Section):
    """`hydra.launcher` of `hydra/launcher=ray`; its file says what they mean."""

    address: str | None
    cpus_per_run: Count | None
    gpus_per_run: Annotated[float, Field(ge=0)] | None
    resources: dict[str, Annotated[float, Field(gt=0)]]


class Ray:
    """A task for each run, which trains it in a process of its own.

    Args:
        plan: the sweep.
        given: `hydra.launcher`.

    Raises:
        InputError: the cluster does not answer, or has no node for such runs.
    """

    def __init__(self, plan: Plan, given: Mapping[str, Any]) -> None:
        self.options = options(Options, given, "hydra.launcher")
        self.pending = plan.pending
        self.limit = plan.sweep.jobs
        self.running: dict[Any, Cell] = {}
        self.report = examined(self.pending, cores=1, here=False)
        self.ray = _connected(self.options.address)
        try:
            self.gpus = self.ray.cluster_resources().get("GPU", 0)
            self._check_room()
        except BaseException:
            self.ray.shutdown()
            raise
        self.task = self.ray.remote(max_retries=0)(carry_out)

    def _check_room(self) -> None:
        """Refuse what no node of the cluster will ever have room for."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for cell in self.pending:
            cell.settings.device.check_one_machine()
            asked = self._resources(cell)
            wanted = {"CPU": asked["num_cpus"], "GPU": asked["num_gpus"], **asked["resources"]}
            for name, amount in wanted.items():
                most = max(node.get(name, 0) for node in nodes)
                if amount > most:
                    setting = {"CPU": "cpus_per_run", "GPU": "gpus_per_run"}.get(name, f"resources.{name}")
                    raise InputError(
                        f"hydra.launcher.{setting}={amount:g}: no node of the cluster has so many; "
                        f"allowed: {most:g} at most"
                    )

    def _resources(self, cell: Cell) -> dict[str, Any]:
        asked = cell.settings.device
        gpus = self.options.gpus_per_run
        if gpus is None:
            accelerated = asked.accelerator == "gpu" or (asked.accelerator == "auto" and self.gpus)
            gpus = asked.devices if accelerated else 0
        return {
            "num_cpus": self._cores(cell) * asked.devices,
            "num_gpus": gpus,
            "resources": self.options.resources,
        }

    def _cores(self, cell: Cell) -> int:
        """Threads of each of its processes."""
        recorded = cell.run.status().get("device", {}).get("threads")
        return int(recorded or self.options.cpus_per_run or cell.settings.device.threads or 1)

    @property
    def at_once(self) -> int:
        """Unknown: the cluster decides."""
        return 0

    def describe(self) -> str:
        """`on a Ray cluster of 2 nodes with 4 cores`."""
        alive = [node for node in self.ray.nodes() if node["Alive"]]
        cores = sum(node["Resources"].get("CPU", 0) for node in alive)
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        return f"on a Ray cluster of {len(alive)} node{'s' * (len(alive) > 1)} with {cores:g} cores{gpus}"

    def refused(self) -> Mapping[Cell, str]:
        """The pending runs that cannot be made, and why."""
        return {self.pending[i]: error for i, error in self.report.errors.items()}

    def start(self, cell: Cell) -> bool:
        """Hand a run to the cluster."""
        if self.limit and len(self.running) >= self.limit:
            return False
        task = self.task.options(name=cell.run.path.name, **self._resources(cell))
        reference = task.remote(Job.of(cell, self._cores(cell)), str(Path.cwd()), _environment())
        self.running[reference] = cell
        return True

    def submit(self) -> None:
        """Nothing to do: a task is submitted when it is started."""

    def ended(self) -> list[tuple[Cell, Outcome]]:
        """The runs that ended since this was last asked."""
        if not self.running:
            return []
        waiting = list(self.running)
        ready, _ = self.ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [(self.running.pop(reference), self._outcome(reference)) for reference in ready]

    def _outcome(self, reference: Any) -> Outcome:
        try:
            found = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            said = str(error).strip().splitlines()
            return Outcome("died", f"{type(error).__name__}: {said[0] if said else ''}")
        return found if isinstance(found, Outcome) else Outcome("failed", f"it returned {found!r}")

    def close(self) -> None:
        """End what is running: each run writes where it stands, and goes on when it is asked for again."""
        for reference in self.running:
            self.ray.cancel(reference, force=False)
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=GRACE_S)
        self.ray.shutdown()


def carry_out(job: Job, folder: str, environment: Mapping[str, str]) -> Outcome:
    """What a Ray worker does: it has a process train the run, as warm and as isolated as on this machine."""
    os.chdir(folder)
    child = Child("cnnbench.sweeps.worker:work", job, environment=environment)
    try:
        while not child.ended:
            time.sleep(0.05)
        return child.answer()  # type: ignore[no-any-return]
    except Died as death:
        return Outcome("died", str(death))
    except BaseException:  # cancelled
        child.terminate()
        child.kill_after(time.monotonic() + GRACE_S)
        raise


def _environment() -> dict[str, str]:
    """What runs have to know of this process's environment: Ray starts its workers with the cluster's."""
    prefixes = ("CNNBENCH_", "WANDB_")
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def _connected(address: str | None) -> Any:
    """Ray, connected to a cluster.

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """
    try:
        import ray
    except ImportError:
        raise InputError(
            "hydra/launcher=ray: Ray is not installed; run `pip install 'cnnbench[ray]'`"
        ) from None
    where = f"hydra.launcher.address={address}"
    _check_reachable(address, where)
    path = os.environ.get("PYTHONPATH")
    options: dict[str, Any] = {"runtime_env": {"env_vars": {"PYTHONPATH": path}}} if path else {}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "num_cpus": cpu_cores()}
    else:
        options |= {"address": address}
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except Exception as error:  # Ray raises many kinds
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{where}: no Ray cluster answers ({said[0]})") from None
    return ray


def _check_reachable(address: str | None, where: str) -> None:
    """Refuse an address at which nothing listens at once: Ray itself would try for a minute."""
    if address in (None, "auto", "local"):
        return
    assert address is not None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"{where}: allowed: auto, host:port, ray://host:port, null")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        raise InputError(f"{where}: nothing answers there ({error.strerror or error})") from None
