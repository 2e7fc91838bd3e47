"""Leases of runs: one process at a time trains a run, on one machine or on several that share a disk.

The holder writes its name into the file `lease` and renews it every few seconds. Another process takes the
lease over at once if the holder's process is known to be gone, which can be checked on the same machine only,
or after it has seen no renewal for LEASE_S seconds by its own clock: the clocks of two machines and of a file
server need not agree. A holder that was suspended for so long finds its lease lost when it wakes, and must
not write any more.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from cnnbench.errors import InputError, of_system

LEASE_S = float(os.environ.get("CNNBENCH_LEASE_S", "60"))
"""Seconds without a renewal after which a lease expires; equal on all machines that share a disk."""

EMPTY_S = 2.0
"""Seconds after which a lease without content is of nobody."""

NAME = "lease"

COPIES = (None, "/dev/shm")
"""Where a lease is copied to: the usual folder, which may be on the same disk, else memory."""

BLOCK = 4096
"""Bytes that a folder must have room for: no less than a disk gives at a time."""


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
        lease.acquire()
    except (Timeout, LeaseSettingsMismatch, OSError):
        return _is_abandoned(Path(lease.lock_file))
    with suppress(OSError):
        release(lease)
    return True


def release(held: SoftFileLease) -> None:
    """Release a lease. One that cannot be removed is emptied: it must not name a process that lives on.

    Raises:
        OSError: it cannot be removed.
    """
    marker, token = Path(held.lock_file), held.token
    try:
        held.release()
    except OSError:
        with suppress(OSError):
            if token and token in marker.read_text(encoding="utf-8", errors="replace"):
                os.truncate(marker, 0)
                os.utime(marker, (0, 0))
        raise


def check_writable(run: Path) -> None:
    """Check that a run's folder, if there is one, can be written to: otherwise its lease cannot be acquired.

    Raises:
        InputError: it cannot, or a lease that no process holds cannot be removed.
    """
    if (error := _refusal(run)) is not None:
        raise InputError(f"output_dir: {of_system(error, run)}")
    marker = run / NAME
    if os.path.lexists(marker) and _is_abandoned(marker):
        raise InputError(
            f"output_dir: {marker}: cannot be removed, though no process holds it; allowed: a folder from "
            "which files can be removed"
        )


def _remove_empty(marker: Path) -> None:
    """Remove a lease that has no content: its holder was killed, or the disk full, before it could write it.

    filelock takes such a lease for one of an older version of itself, which never expires. Should its holder
    be alive after all, the run is fenced (`cnnbench.run_store.fence`).
    """
    with suppress(OSError):
        if _is_of_nobody(marker):
            marker.unlink()


def _is_of_nobody(marker: Path) -> bool:
    stat = marker.stat()
    return stat.st_size == 0 and abs(time.time() - stat.st_mtime) > EMPTY_S


def _is_abandoned(marker: Path) -> bool:
    """Return whether a lease that could not be acquired has no holder.

    On a disk that is full or read-only, or refuses to remove files, nobody can take over the lease of a
    process that is gone. It is gone if a copy of its lease can be taken over. A lease that was renewed a
    moment ago in a folder that can be written is not asked about: its holder lives, or is followed at once.
    """
    try:
        if not os.path.lexists(marker) or _is_of_nobody(marker):
            return True
        recent = abs(time.time() - marker.stat().st_mtime) < LEASE_S
        if recent and _refusal(marker.parent) is None:
            return False
        for folder in COPIES:
            with suppress(OSError), tempfile.TemporaryDirectory(dir=folder) as copy:
                shutil.copy2(marker, copy)
                with suppress(Timeout, LeaseSettingsMismatch), of(Path(copy)):
                    return True
                return False
    except OSError:
        pass
    return False


def _refusal(folder: Path) -> OSError | None:
    """Return why a folder cannot be written; None if it can, or is not there.

    Permissions alone do not tell on network disks or as root, and an empty file has room on a full disk.
    """
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(BLOCK))
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    return None


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
