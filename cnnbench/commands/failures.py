"""Error messages of runs that failed, and their exit codes."""

from __future__ import annotations

from cnnbench.errors import Finding, InputError, Superseded, Unreadable, of_system
from cnnbench.processes.forked import Died
from cnnbench.run_store.run import DONE, Run
from cnnbench.safe_text import print_error, print_traceback

COMPLETE = (Finding, Unreadable, Died, Superseded)
"""Errors whose message says all."""


def report(run: Run | None, error: Exception) -> int:
    """Print an error on standard error, as one line if its message is complete, else with its traceback.

    Args:
        run: the run; None if it is not known yet.
        error: what it raised.

    Returns:
        The exit code: 2 for bad input, 141 for a closed pipe, 1 for all other errors.
    """
    if isinstance(error, InputError):
        return print_error(error)
    if isinstance(error, BrokenPipeError) and run is not None and run.state in DONE:
        return 141  # nobody read the result, as in `cnnbench train | head -1`
    if line := explanation(error, run.path if run else ""):
        print_error(f"{line}{see_log(run) if run else ''}")
    else:
        print_traceback(error)
        if run:
            print_error(f"{run.path.name} failed{see_log(run)}")
    return 1


def explanation(error: Exception, where: object = "") -> str:
    """Return one line that says everything about an error; empty if that takes a traceback.

    Args:
        error: the error.
        where: the file or folder that was written.
    """
    if line := of_system(error, where):
        return f"{line}; then run the same command again"
    if isinstance(error, COMPLETE) or isinstance(error.__cause__, COMPLETE):
        return str(error)
    if str(error).startswith("DataLoader worker"):  # of torch, as a RuntimeError
        death = str(error).strip().removeprefix("DataLoader worker ").rstrip(".")
        return f"data.num_workers: a worker process died (out of memory?): {death}"
    return ""


def see_log(run: Run) -> str:
    """Return `; see …/train.log` if the run has a log, else an empty text."""
    log = run.path / "train.log"
    return f"; see {log}" if log.exists() else ""
