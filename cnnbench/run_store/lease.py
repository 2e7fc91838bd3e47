"""Leases of runs: one process at a time trains a run, on one machine or on several that share a disk.

The holder writes its name into the file `lease` and renews it every few seconds. Another process takes the
lease over at once if the holder's process is known to be gone, which can be checked on the same machine only,
or after it has seen no renewal for LEASE_S seconds by its own clock: the clocks of two machines and of a file
server need not agree. A holder that was suspended for so long finds its lease lost when it wakes, and must
not write any more.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

LEASE_S = float(os.environ.get("CNNBENCH_LEASE_S", "60"))
"""Seconds without a renewal after which a lease expires; equal on all machines that share a disk."""

EMPTY_S = 2.0
"""Seconds after which a lease without content is of nobody."""

NAME = "lease"


def of(run: Path) -> SoftFileLease:
    """Return the lease of a run's folder, not yet acquired; acquiring it never waits."""
    return SoftFileLease(run / NAME, lease_duration=LEASE_S, heartbeat_interval=LEASE_S / 6, timeout=0)


def is_free(run: Path) -> bool:
    """Return whether no process trains a run, as far as can be known without waiting.

    A holder on another machine counts as alive; see `watch`.
    """
    return not (run / NAME).exists() or frees(of(run))


def frees(lease: SoftFileLease) -> bool:
    """Return whether no process holds a lease; repeated calls with one object also detect expired leases."""
    _remove_empty(Path(lease.lock_file))
    try:
        with lease:
            return True
    except (Timeout, LeaseSettingsMismatch):
        return False
    except OSError:  # a full disk, or a folder that is read-only or gone, in which no lease can be acquired
        return not _may_be_held(Path(lease.lock_file))


def _remove_empty(marker: Path) -> None:
    """Remove a lease that has no content: its holder was killed, or the disk full, before it could write it.

    filelock takes such a lease for one of an older version of itself, which never expires. Should its holder
    be alive after all, the run is fenced (`cnnbench.run_store.fence`).
    """
    with suppress(OSError):
        stat = marker.stat()
        if stat.st_size == 0 and abs(time.time() - stat.st_mtime) > EMPTY_S:
            marker.unlink()


def _may_be_held(marker: Path) -> bool:
    """Return False if a lease has no holder, or is of a process of this machine that is gone; else True."""
    try:
        text = marker.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    holder = dict(line.partition("=")[::2] for line in text.splitlines())
    if holder.get("host") != socket.gethostname() or not holder.get("pid", "").isdecimal():
        return True
    import psutil

    return bool(psutil.pid_exists(int(holder["pid"])))


def watch(runs: Iterable[Path], beat: Callable[[], None] = lambda: None) -> list[Path]:
    """Return the runs whose lease expires while it is watched, after LEASE_S seconds at most.

    Args:
        runs: folders of runs whose lease is held.
        beat: called about twice a second meanwhile.
    """
    leases = {run: of(run) for run in runs}
    marks = {run: _mark(run) for run in leases}
    silent: list[Path] = []
    deadline = time.monotonic() + LEASE_S + 1
    while leases and time.monotonic() < deadline:
        for run in list(leases):
            if _mark(run) != marks[run] and (run / NAME).exists():
                del leases[run]  # renewed
            elif frees(leases[run]):
                del leases[run]
                silent.append(run)
        beat()
        time.sleep(min(0.5, LEASE_S / 6))
    return silent


def _mark(run: Path) -> tuple[int, int] | None:
    """Return a value that changes with each renewal of a lease; None if there is no lease."""
    try:
        stat = (run / NAME).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns
