"""One run of a sweep, in a process of its own."""

from __future__ import annotations

import pkgutil

from cnnbench.errors import Busy, Finding, InputError, Interrupted, Superseded, of_system
from cnnbench.processes.signals import interruptible
from cnnbench.run_store import lease
from cnnbench.run_store.run import Run
from cnnbench.sweeps.pool import Job, Outcome
from cnnbench.training.rank import Rank


def work(job: Job) -> Outcome:
    """Train a run from its last checkpoint to its end, or until a signal interrupts it."""
    try:
        with interruptible():
            return train(job)
    except Interrupted as error:
        return Outcome("interrupted", str(error))


def train(job: Job, rank: Rank | None = None) -> Outcome:
    """Train a run from its last checkpoint to its end; return its failure, if any, as the outcome.

    Args:
        job: the run.
        rank: rank of this process if a cluster started several for the run.

    Raises:
        Interrupted: a signal ended the attempt.
    """
    try:
        pkgutil.resolve_name(job.settings.work)(job.settings, Run(job.path, job.planned), job.cores, rank)
    except Busy as error:
        try:
            lease.check_writable(job.path)
        except InputError as refusal:  # nobody trains it: its lease cannot be taken over
            return Outcome("refused", str(refusal))
        return Outcome("busy", str(error) if isinstance(error, Superseded) else f"by {error.who}")
    except (InputError, Finding) as error:
        return Outcome("refused", str(error))
    except Exception as error:  # any failure of a model, disk or device; its traceback is in the run's folder
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        return Outcome("failed", of_system(error, job.path) or reason)
    return Outcome("ended")
