"""Changes to a finished run's folder that leave its result as it is. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from filelock import LeaseSettingsMismatch, Timeout

from cnnbench.errors import Busy, InputError
from cnnbench.run_store import lease
from cnnbench.run_store.attempt import fenced
from cnnbench.run_store.fence import Fence, check_links
from cnnbench.run_store.run import Run


@contextmanager
def amending(run: Run) -> Iterator[Run]:
    """Hold the lease of a finished run while files are added to it.

    A kill within the block leaves the run interrupted: the command that trained it evaluates it again.

    Yields:
        The run, whose files are fenced.

    Raises:
        Busy: another process has the run, or it is not finished any more.
        InputError: the folder cannot be written to.
    """
    check_links(run.path)
    held = lease.of(run.path)
    try:
        held.acquire()
        fence = Fence(run.path, held)
    except (Timeout, LeaseSettingsMismatch):
        raise Busy(run.path, run.status()) from None
    except OSError as error:
        lease.release(held)
        raise InputError(f"output_dir: {run.path} cannot be written ({error.strerror})") from None
    try:
        with fenced(run, fence):
            if run.state != "finished" and run.status().get("state") != "finished":
                raise Busy(run.path, run.status())
            amended, status = replace(run, files=fence), run.status()
            amended.write_status(status | {"state": "running"})  # its digests do not hold meanwhile
            yield amended
            amended.write_status(status)
    finally:
        lease.release(held)
