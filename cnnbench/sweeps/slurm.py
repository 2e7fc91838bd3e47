"""Runs as jobs of a SLURM cluster, by submitit. The driver only observes them: jobs outlive it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from cnnbench import console
from cnnbench.errors import InputError, of_system, suggest
from cnnbench.processes.signals import unbroken
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.reading import Unfit, parse_json, read
from cnnbench.settings.base import Count, NonNegative, Rate, Section, options
from cnnbench.settings.device import Device
from cnnbench.sweeps.plan import Cell, Plan, is_done
from cnnbench.sweeps.pool import Job, Outcome, run_preflight

if TYPE_CHECKING:
    from cnnbench.training.rank import Rank

ARRAY = 1000
"""Jobs in one array: SLURM's default MaxArraySize allows one more."""

LEFT_S = 30
"""Seconds after which SLURM ends the other tasks of a run when one of them has ended."""

ACCOUNTING_S = 15.0  # in which SLURM's accounting, which lags behind, may yet come to know a job
LIVING = ("PENDING", "RUNNING", "REQUEUED", "COMPLETING", "PREEMPTED", "CONFIGURING", "SUSPENDED", "RESIZING")


class SlurmOptions(Section):
    """Settings of `hydra/launcher=slurm` (`hydra.launcher`), which its file documents."""

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
    """The function of a job, which submitit pickles.

    At its time limit, a job is requeued with what `checkpoint` returns.
    """

    def __call__(self, job: Job) -> Outcome:
        """Train the run, in as many tasks as it has processes; submitit handles SLURM's signals."""
        from cnnbench.sweeps.worker import train

        return train(job, _rank())

    def checkpoint(self, job: Job) -> Any:
        """Return the submission that resumes the run from its last checkpoint, without `force`."""
        from submitit.helpers import DelayedSubmission

        # At the limit SLURM sends SIGTERM to all processes of the step. It must not kill `scontrol requeue`,
        # which submitit calls next and which inherits this mask, or the attempt would count as failed.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        return DelayedSubmission(self, job.again())


class SlurmPool:
    """A SLURM job for each run.

    Args:
        plan: the sweep.
        given: `hydra.launcher`.

    Raises:
        InputError: no SLURM on this machine, an invalid setting, or no such partition.
    """

    def __init__(self, plan: Plan, given: Mapping[str, Any]) -> None:
        self.options = options(SlurmOptions, given, "hydra.launcher")
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
        self.job_class = submitit.SlurmJob
        self.started: list[Cell] = []  # but not submitted yet
        self.jobs: dict[Cell, Any] = {}
        self.job_ids = self._read_job_ids()
        self.patient_until = time.monotonic() + ACCOUNTING_S
        # The devices and the data of the cluster need not be those of this machine.
        self.report = run_preflight(self.pending, cores=1, here=False)

    def _parameters(self, device: Device) -> dict[str, Any]:
        """Return submitit's parameters of a job for a run with these device settings."""
        o, tasks = self.options, device.nodes * device.devices
        parameters = {
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
            # No task of a run may wait for another one that has ended.
            "srun_args": ["--kill-on-bad-exit=1", f"--wait={LEFT_S}"] if tasks > 1 else None,
            # As on this machine: modules in the working folder do not shadow installed ones.
            "setup": ["export PYTHONSAFEPATH=1", *o.setup],
            "array_parallelism": self.limit or 256,
            "additional_parameters": o.sbatch or None,
        }
        return {key: value for key, value in parameters.items() if value is not None}

    def _read_job_ids(self) -> dict[str, str]:
        """Read the ids of jobs that an earlier driver has submitted, by run."""
        try:
            jobs = parse_json(read(self.folder / "jobs.json"))
        except (FileNotFoundError, Unfit):
            return {}
        return {run: job for run, job in jobs.items() if isinstance(job, str)}

    @property
    def at_once(self) -> int:
        """0 for unknown: the cluster decides."""
        return 0

    def describe(self) -> str:
        """Return `as SLURM jobs in partition gpu`."""
        partition = f" in partition {self.options.partition}" if self.options.partition else ""
        return f"as SLURM jobs{partition}" + (f", {self.limit} at a time" if self.limit else "")

    def refused(self) -> Mapping[Cell, str]:
        """Return the pending runs that the preflight found impossible, with the reason."""
        return {self.pending[i]: error for i, error in self.report.errors.items()}

    def start(self, cell: Cell) -> bool:
        """Adopt the job that an earlier driver has submitted, or put the run into the next array."""
        if cell.tries == 0 and (job := self._earlier_job(cell)) is not None:
            self.jobs[cell] = job
        else:
            self.started.append(cell)
        return True

    def _earlier_job(self, cell: Cell) -> Any:
        """Return the job that an earlier driver has submitted, if it is living or has finished its run."""
        job_id = self.job_ids.get(cell.run.path.name)
        if job_id is None:
            return None
        job = self.job_class(folder=self.folder / "%j", job_id=job_id)
        state = job.watcher.get_state(job_id, mode="force").split()[0]
        while state == "UNKNOWN" and time.monotonic() < self.patient_until:
            time.sleep(0.5)
            state = job.watcher.get_state(job_id, mode="force").split()[0]
        return job if state in LIVING or (is_done(cell) and not cell.settings.force) else None

    def submit(self) -> None:
        """Submit the started runs, those with equal parameters as one array.

        Raises:
            InputError: SLURM rejects a job.
        """
        while self.started:
            parameters = self._parameters(self.started[0].settings.device)
            alike = [cell for cell in self.started if self._parameters(cell.settings.device) == parameters]
            array = alike[:ARRAY]
            self.started = [cell for cell in self.started if cell not in array]
            jobs = [Job.of(cell, self.options.cpus_per_task) for cell in array]
            with unbroken():  # what was submitted must be recorded
                try:
                    self.executor.update_parameters(**parameters)
                    submitted = self.executor.map_array(Work(), jobs)
                except Exception as error:  # submitit has no class of its own for errors of sbatch
                    message = " ".join(str(error).split())[-400:]
                    raise InputError(f"hydra/launcher=slurm: SLURM rejected the job: {message}") from error
                self.jobs |= {cell: job.task(0) for cell, job in zip(array, submitted, strict=True)}
                self.job_ids |= {cell.run.path.name: self.jobs[cell].job_id for cell in array}
                self._write_job_ids()

    def _write_job_ids(self) -> None:
        """Record the ids of the jobs; without them, a later driver submits runs again, which then wait."""
        file = self.folder / "jobs.json"
        try:
            write_atomic(file, json.dumps(self.job_ids, indent=0))
        except OSError as error:
            console.console.print(of_system(error, file), style="yellow", highlight=False, soft_wrap=True)

    def ended(self) -> list[tuple[Cell, Outcome]]:
        """Return the runs that have ended since the last call."""
        outcomes = []
        for cell in [cell for cell, job in self.jobs.items() if job.done()]:
            outcomes.append((cell, _outcome(self.jobs.pop(cell))))
            self.job_ids.pop(cell.run.path.name, None)
        return outcomes

    def close(self) -> None:
        """Leave the jobs to the cluster and report how to cancel them; the same command adopts them."""
        if self.jobs:
            numbers = sorted({job.job_id.partition("_")[0] for job in self.jobs.values()})
            left = f"{len(self.jobs)} runs stay with SLURM (`scancel {' '.join(numbers)}` cancels them)"
            console.console.print(left, style="yellow", highlight=False)


def _outcome(job: Any) -> Outcome:
    """Return the outcome of a job: its result, or how SLURM ended it."""
    log = Path(job.paths.stderr)
    try:
        result = job.result()
    except Exception as error:  # of submitit, or of the job before the run began
        if job.paths.result_pickle.exists():
            reasons = str(error).strip().splitlines()[-1:] or [repr(error)]
        else:  # it ended without a result: killed, or failed to start
            reasons = [job.watcher.get_state(job.job_id, mode="force")]
            reasons += log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        return Outcome("died", f"SLURM job {job.job_id} ended: {', '.join(reasons)}; see {log}")
    return result if isinstance(result, Outcome) else Outcome("failed", f"the job returned {result!r}")


def _rank() -> Rank | None:
    """Return the rank of this task among those of its run; None if it is the only one."""
    from submitit import JobEnvironment

    from cnnbench.training.rank import Rank

    job = JobEnvironment()
    if job.num_tasks == 1:
        return None
    return Rank(
        job.global_rank,
        job.num_tasks,
        job.local_rank,
        job.node,
        os.environ.get("MASTER_ADDR") or job.hostnames[0],
        int(os.environ.get("MASTER_PORT") or 20000 + int(os.environ["SLURM_JOB_ID"]) % 20000),
    )


def _submitit() -> Any:
    """Import submitit.

    Raises:
        InputError: it is not installed, or SLURM is not.
    """
    if shutil.which("sbatch") is None:
        raise InputError("hydra/launcher=slurm: no SLURM on this machine (`sbatch` is not in PATH)")
    try:
        import submitit
    except ImportError:
        raise InputError(
            "hydra/launcher=slurm: submitit is not installed; run `pip install 'cnnbench[slurm]'`"
        ) from None
    return submitit


def check_partition(partitions: str | None) -> None:
    """Check that the cluster answers and has the partitions.

    Args:
        partitions: names separated by commas; None for the cluster's default.

    Raises:
        InputError: it does not answer, or has no such partition.
    """
    try:
        done = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"hydra/launcher=slurm: sinfo does not answer ({error})") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise InputError(f"hydra/launcher=slurm: the cluster does not answer ({lines[0]})")
    known = sorted(set(done.stdout.split()))
    for name in (partitions or "").split(","):
        if name and name not in known:
            raise InputError(f"hydra.launcher.partition={name}: no such partition; {suggest(name, known)}")
