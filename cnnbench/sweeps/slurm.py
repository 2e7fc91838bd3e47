"""Runs as jobs of a SLURM cluster, by submitit. The driver only watches: jobs outlive it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from cnnbench import console
from cnnbench.errors import InputError, suggest
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.run import DONE
from cnnbench.settings.base import Count, NonNegative, Rate, Section, options
from cnnbench.settings.device import Device
from cnnbench.sweeps.plan import Cell, Plan
from cnnbench.sweeps.pool import Job, Outcome, examined

if TYPE_CHECKING:
    from cnnbench.training.rank import Rank

ARRAY = 1000
"""Jobs in one array: SLURM's default MaxArraySize allows one more."""

LEFT_S = 30
"""Seconds after the end of one of a run's tasks at which SLURM ends the others."""

LIVING = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED", "CONFIGURING", "SUSPENDED", "RESIZING")


class Options(Section):
    """`hydra.launcher` of `hydra/launcher=slurm`; its file says what they mean."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None
    time_min: Count
    max_requeues: NonNegative
    signal_delay_s: Count
    cpus_per_task: Count
    gpus_per_node: Count | None
    mem_gb: Annotated[float, Field(gt=0)] | None
    setup: list[str]
    sbatch: dict[str, Any]
    poll_s: Rate


class Work:
    """What a job runs. A job that meets its time limit is queued again with what `checkpoint` returns."""

    def __call__(self, job: Job) -> Outcome:
        """Train the run, in as many tasks as it is to have; SLURM's signals are submitit's business."""
        from cnnbench.sweeps.worker import train

        return train(job, _rank())

    def checkpoint(self, job: Job) -> Any:
        """The run goes on from its last checkpoint, and is not forced anew."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job.again())


class Slurm:
    """A job for each run.

    Args:
        plan: the sweep.
        given: `hydra.launcher`.

    Raises:
        InputError: there is no SLURM here, or not what is asked for.
    """

    def __init__(self, plan: Plan, given: Mapping[str, Any]) -> None:
        self.options = options(Options, given, "hydra.launcher")
        submitit = _submitit()
        check_partition(self.options.partition)
        self.limit = plan.sweep.jobs
        self.pending = plan.pending
        self.name = plan.pending[0].settings.name
        self.folder = plan.pending[0].run.path.parent.absolute() / ".slurm"
        self.executor = submitit.SlurmExecutor(
            folder=self.folder / "%j", max_num_timeout=self.options.max_requeues
        )
        submitit.SlurmJob.watcher._delay_s = self.options.poll_s
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.job_of = submitit.SlurmJob
        self.asked: list[Cell] = []
        self.jobs: dict[Cell, Any] = {}
        self.known = self._known()
        # Its devices and its data need not be those of this machine.
        self.report = examined(self.pending, cores=1, here=False)

    def _parameters(self, device: Device) -> dict[str, Any]:
        o, tasks = self.options, device.nodes * device.devices
        asked = {
            "job_name": f"cnnbench-{self.name}",
            "partition": o.partition,
            "qos": o.qos,
            "account": o.account,
            "constraint": o.constraint,
            "exclude": o.exclude,
            "time": o.time_min,
            "signal_delay_s": o.signal_delay_s,
            "cpus_per_task": o.cpus_per_task,
            "gpus_per_node": o.gpus_per_node or (device.devices if device.accelerator == "gpu" else None),
            "mem": f"{round(o.mem_gb * 1024)}M" if o.mem_gb else None,
            "nodes": device.nodes,
            "ntasks_per_node": device.devices,
            # Of a run's tasks none may wait for one that has gone.
            "srun_args": ["--kill-on-bad-exit=1", f"--wait={LEFT_S}"] if tasks > 1 else None,
            # As on this machine: nothing is imported from the working folder in place of what is installed.
            "setup": ["export PYTHONSAFEPATH=1", *o.setup],
            "array_parallelism": self.limit or 256,
            "additional_parameters": o.sbatch or None,
        }
        return {key: value for key, value in asked.items() if value is not None}

    def _known(self) -> dict[str, str]:
        """Jobs that an earlier driver has submitted, by run."""
        try:
            return dict(json.loads((self.folder / "jobs.json").read_text()))
        except (OSError, ValueError):
            return {}

    @property
    def at_once(self) -> int:
        """Unknown: the cluster decides."""
        return 0

    def describe(self) -> str:
        """`as SLURM jobs in partition gpu`."""
        where = f" in partition {self.options.partition}" if self.options.partition else ""
        return f"as SLURM jobs{where}" + (f", {self.limit} at a time" if self.limit else "")

    def refused(self) -> Mapping[Cell, str]:
        """The pending runs that cannot be made, and why."""
        return {self.pending[i]: error for i, error in self.report.errors.items()}

    def start(self, cell: Cell) -> bool:
        """Take up the job that an earlier driver has submitted, or put the run into the next array."""
        if cell.tries == 0 and (found := self._living(cell)) is not None:
            self.jobs[cell] = found
        else:
            self.asked.append(cell)
        return True

    def _living(self, cell: Cell) -> Any:
        """The job that an earlier driver has submitted, if it still runs or has finished its run."""
        number = self.known.get(cell.run.path.name)
        if number is None:
            return None
        job = self.job_of(folder=self.folder / "%j", job_id=number)
        living = job.watcher.get_state(number, mode="force").split()[0] in LIVING
        return job if living or (cell.run.state in DONE and not cell.settings.force) else None

    def submit(self) -> None:
        """Hand what was started to the cluster: an array of those that want the same of it."""
        while self.asked:
            wanted = self._parameters(self.asked[0].settings.device)
            alike = [cell for cell in self.asked if self._parameters(cell.settings.device) == wanted]
            part = alike[:ARRAY]
            self.asked = [cell for cell in self.asked if cell not in part]
            jobs = [Job.of(cell, self.options.cpus_per_task) for cell in part]
            try:
                self.executor.update_parameters(**wanted)
                submitted = self.executor.map_array(Work(), jobs)
            except Exception as error:  # submitit has no error of its own for what sbatch says
                said = " ".join(str(error).split())
                raise InputError(f"hydra/launcher=slurm: the job was not accepted: {said[-400:]}") from error
            self.jobs |= {cell: job.task(0) for cell, job in zip(part, submitted, strict=True)}
            self.known |= {cell.run.path.name: self.jobs[cell].job_id for cell in part}
            write_atomic(self.folder / "jobs.json", json.dumps(self.known, indent=0))

    def ended(self) -> list[tuple[Cell, Outcome]]:
        """The runs that ended since this was last asked."""
        found = []
        for cell in [cell for cell, job in self.jobs.items() if job.done()]:
            found.append((cell, _outcome(self.jobs.pop(cell))))
            self.known.pop(cell.run.path.name, None)
        return found

    def close(self) -> None:
        """Leave the jobs to the cluster: the same command takes them up again."""
        if self.jobs:
            numbers = sorted({job.job_id.partition("_")[0] for job in self.jobs.values()})
            console.console.print(
                f"{len(self.jobs)} runs stay with SLURM (`scancel {' '.join(numbers)}` ends them)",
                style="yellow",
                highlight=False,
            )


def _outcome(job: Any) -> Outcome:
    """How a job ended: what it returned, or what SLURM says of it."""
    path = Path(job.paths.stderr)
    try:
        found = job.result()
    except Exception as error:  # of submitit, or of what ran before the run began
        if job.paths.result_pickle.exists():
            said = str(error).strip().splitlines()[-1:] or [repr(error)]
        else:  # it was killed, or did not come to say anything
            said = [job.watcher.get_state(job.job_id, mode="force")]
            said += path.read_text(errors="replace").strip().splitlines()[-1:] if path.exists() else []
        return Outcome("died", f"SLURM job {job.job_id} ended: {', '.join(said)}; see {path}")
    return found if isinstance(found, Outcome) else Outcome("failed", f"it returned {found!r}")


def _rank() -> Rank | None:
    """Which of its run's tasks this process is; None if it is the only one."""
    from submitit import JobEnvironment

    from cnnbench.training.rank import Rank

    here = JobEnvironment()
    if here.num_tasks == 1:
        return None
    return Rank(
        here.global_rank,
        here.num_tasks,
        here.local_rank,
        here.node,
        os.environ.get("MASTER_ADDR") or here.hostnames[0],
        int(os.environ.get("MASTER_PORT") or 20000 + int(os.environ["SLURM_JOB_ID"]) % 20000),
    )


def _submitit() -> Any:
    if shutil.which("sbatch") is None:
        raise InputError("hydra/launcher=slurm: there is no SLURM here (no `sbatch` in PATH)")
    try:
        import submitit
    except ImportError:
        raise InputError(
            "hydra/launcher=slurm: submitit is not installed; run `pip install 'cnnbench[slurm]'`"
        ) from None
    return submitit


def check_partition(asked: str | None) -> None:
    """Refuse a partition that there is not, and a cluster that does not answer.

    Raises:
        InputError: as above.
    """
    try:
        done = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"hydra/launcher=slurm: sinfo does not answer ({error})") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise InputError(f"hydra/launcher=slurm: the cluster does not answer ({said[0]})")
    there = sorted(set(done.stdout.split()))
    for name in (asked or "").split(","):
        if name and name not in there:
            raise InputError(f"hydra.launcher.partition={name}: no such partition; {suggest(name, there)}")
