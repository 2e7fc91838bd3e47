"""Who trains a run: one process at a time, on one machine or on several that share a disk.

The holder writes its name into `lease` and touches it every few seconds. It has gone when its process is
proven to be gone, which can be told on the same machine, at once, or when somebody else has seen no sign of
it for LEASE_S seconds of their own clock: neither the clocks of two machines nor the times that a file server
gives to its files have to agree. A holder that slept so long, and was given up, finds its lease lost when it
wakes, and must not write any more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

LEASE_S = float(os.environ.get("CNNBENCH_LEASE_S", "60"))
"""Seconds without a sign of life. All who share a disk must agree on it."""

NAME = "lease"


def of(run: Path) -> SoftFileLease:
    """The lease of the run in this folder: not yet acquired, and acquired at once or not at all."""
    return SoftFileLease(run / NAME, lease_duration=LEASE_S, heartbeat_interval=LEASE_S / 6, timeout=0)


def is_free(run: Path) -> bool:
    """Whether nobody trains this run, as far as that can be told at once.

    Of a holder on another machine it cannot: see `watch`.
    """
    return not (run / NAME).exists() or frees(of(run))


def frees(lease: SoftFileLease) -> bool:
    """Whether nobody holds the run; asked of one object again and again, it also finds silent holders."""
    try:
        with lease:
            return True
    except (Timeout, LeaseSettingsMismatch):
        return False
    except OSError:  # a folder that may only be read: nobody here can tell
        return False


def watch(runs: Iterable[Path], beat: Callable[[], None] = lambda: None) -> list[Path]:
    """Those of the runs whose holder gives no sign of life. Returns after LEASE_S seconds, or before.

    Args:
        runs: folders of runs that are held.
        beat: called about twice a second meanwhile.
    """
    leases = {run: of(run) for run in runs}
    marks = {run: _mark(run) for run in leases}
    silent: list[Path] = []
    deadline = time.monotonic() + LEASE_S + 1
    while leases and time.monotonic() < deadline:
        for run in list(leases):
            if _mark(run) != marks[run] and (run / NAME).exists():
                del leases[run]  # it beats
            elif frees(leases[run]):
                del leases[run]
                silent.append(run)
        beat()
        time.sleep(min(0.5, LEASE_S / 6))
    return silent


def _mark(run: Path) -> tuple[int, int] | None:
    """Changes with each beat."""
    try:
        found = (run / NAME).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
