"""Whether a measurement can be made here, and would say something; asked before anything is written."""

from __future__ import annotations

from cnnbench.bench import backends, memory
from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores
from cnnbench.settings.bench import Bench


def check_possible(settings: Bench, accelerator: str) -> None:
    """Ask everything that does not need the model.

    Raises:
        InputError: a backend, a limit or a number of threads that this machine does not have.
    """
    backends.check(settings, accelerator)
    memory.check(settings.memory_limit_gb, accelerator)
    if settings.tune and accelerator == "mps":
        raise InputError("tune=true: not on mps, where channels_last has returned wrong numbers")
    threads, cores = settings.device.threads, cpu_cores()
    if threads is not None and threads > cores:
        raise InputError(
            f"device.threads={threads}: more than the {cores} core{'s' * (cores != 1)} here, for which they "
            f"would wait; allowed: null, or 1 to {cores}"
        )
