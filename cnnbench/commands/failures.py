"""Error messages of runs that failed, and their exit codes."""

from __future__ import annotations

import errno

from cnnbench.errors import Finding, InputError, Unreadable
from cnnbench.processes.forked import Died
from cnnbench.run_store.run import Run
from cnnbench.safe_text import print_error, print_traceback

COMPLETE = (Finding, Unreadable, Died)
"""Errors whose message says all."""


def report(run: Run | None, error: Exception) -> int:
    """Print an error on standard error, as one line if its message is complete, else with its traceback.

    Args:
        run: the run; None if the settings were wrong.
        error: what it raised.

    Returns:
        The exit code: 2 for bad input, 1 for all other errors.
    """
    if isinstance(error, InputError):
        return print_error(error)
    assert run is not None, "settings raise only InputError"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        print_error(f"{run.path}: {error.strerror}")
    elif isinstance(error, COMPLETE) or isinstance(error.__cause__, COMPLETE):
        print_error(error)
    elif str(error).startswith("DataLoader worker"):  # of torch, as a RuntimeError
        death = str(error).strip().removeprefix("DataLoader worker ").rstrip(".")
        print_error(f"data.num_workers: a worker process died (out of memory?): {death}")
    else:
        print_traceback(error)
    return print_error(f"{run.path.name} failed{see_log(run)}", 1)


def see_log(run: Run) -> str:
    """Return `; see …/train.log` if the run has a log, else an empty text."""
    log = run.path / "train.log"
    return f"; see {log}" if log.exists() else ""
