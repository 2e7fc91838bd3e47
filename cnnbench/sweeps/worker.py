"""One run of a sweep, in a process of its own."""

from __future__ import annotations

import pkgutil

from cnnbench.errors import Busy, Finding, InputError, Interrupted, Superseded
from cnnbench.processes.signals import interruptible
from cnnbench.run_store.run import Run
from cnnbench.sweeps.pool import Job, Outcome
from cnnbench.training.rank import Rank


def work(job: Job) -> Outcome:
    """Train a run to its end, from where it stands, or until it is told to end."""
    try:
        with interruptible():
            return train(job)
    except Interrupted as error:
        return Outcome("interrupted", str(error))


def train(job: Job, rank: Rank | None = None) -> Outcome:
    """Train a run to its end, from where it stands; what goes wrong is in the outcome.

    Args:
        job: what to do.
        rank: which of the run's processes this is, if a cluster has started them.
    """
    try:
        pkgutil.resolve_name(job.settings.work)(job.settings, Run(job.path, job.planned), job.cores, rank)
    except Busy as error:
        return Outcome("busy", f"by {error.who}")
    except Superseded as error:
        return Outcome("busy", str(error))
    except (InputError, Finding) as error:
        return Outcome("refused", str(error))
    except Exception as error:  # of a model, a disk, a device: recorded in the run's folder
        said = str(error).strip().splitlines()
        return Outcome("failed", f"{type(error).__name__}: {said[0]}" if said else type(error).__name__)
    return Outcome("ended")
