"""Error messages of runs that failed, and their exit codes."""

from __future__ import annotations

import errno
import sys
import traceback

from cnnbench.errors import Finding, InputError
from cnnbench.processes.forked import Died
from cnnbench.run_store.run import Run


def report(run: Run | None, error: Exception) -> int:
    """Print an error on standard error, as one line if its message is complete, else with its traceback.

    Args:
        run: the run; None if the settings were wrong.
        error: what it raised.

    Returns:
        The exit code: 2 for bad input, 1 for all other errors.
    """
    if isinstance(error, InputError):
        print(f"error: {error}", file=sys.stderr)
        return 2
    assert run is not None, "settings raise only InputError"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        print(f"error: {run.path}: {error.strerror}", file=sys.stderr)
    elif isinstance(error, Finding) or isinstance(error.__cause__, Died):  # their message is complete
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
    print(f"error: {run.path.name} failed{see_log(run)}", file=sys.stderr)
    return 1


def see_log(run: Run) -> str:
    """Return `; see …/train.log` if the run has a log, else an empty text."""
    log = run.path / "train.log"
    return f"; see {log}" if log.exists() else ""
