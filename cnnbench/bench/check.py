"""Checks that a measurement is possible on this machine, made before anything is written."""

from __future__ import annotations

from cnnbench.bench import backends, memory
from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores
from cnnbench.settings.bench import Bench


def check_possible(settings: Bench, accelerator: str) -> None:
    """Check everything that does not need the model.

    Args:
        settings: the measurement.
        accelerator: the resolved one, never `auto`.

    Raises:
        InputError: this machine lacks the backend or the cores, or cannot enforce the memory limit.
    """
    backends.check(settings, accelerator)
    memory.check(settings.memory_limit_gb, accelerator)
    if settings.tune and accelerator == "mps":
        raise InputError(
            "tune=true: not on mps, where channels_last has given wrong results; allowed on cpu and gpu"
        )
    threads, cores = settings.device.threads, cpu_cores()
    if threads is not None and threads > cores:
        raise InputError(
            f"device.threads={threads}: more than the {cores} available core{'s' * (cores != 1)}, so threads "
            f"would wait for each other; allowed: null, or 1 to {cores}"
        )
