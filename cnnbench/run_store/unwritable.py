"""Runs in folders that cannot be written, since their disk is full, read-only or not ours.

The lease of a process that is gone cannot be taken over there, so that its run would seem to be trained for
ever. It is known to be gone if a copy of its lease can be taken over.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from filelock import SoftFileLease

from cnnbench.errors import InputError, of_system
from cnnbench.run_store import lease

COPIES = (None, "/dev/shm")
"""Where a lease is copied to: the usual folder, which may be on the same disk, else memory."""

BLOCK = 4096
"""Bytes that a folder must have room for: no less than a disk gives at a time."""


def frees(held: SoftFileLease) -> bool:
    """Return whether no process holds a lease, also where it cannot be taken over; see `lease.frees`."""
    return lease.frees(held) or _is_abandoned(Path(held.lock_file).parent)


def is_free(run: Path) -> bool:
    """Return whether no process trains a run, also where it cannot be written; see `lease.is_free`."""
    return lease.is_free(run) or _is_abandoned(run)


def check(run: Path) -> None:
    """Check that a run's folder, if there is one, can be written to.

    Raises:
        InputError: it cannot.
    """
    if (error := _refusal(run)) is not None:
        raise InputError(f"output_dir: {of_system(error, run)}")


def _is_abandoned(run: Path) -> bool:
    """Return whether a folder cannot be written, and the process that its lease names is gone."""
    if _refusal(run) is None:
        return False
    for folder in COPIES:
        try:
            with tempfile.TemporaryDirectory(dir=folder) as copy:
                shutil.copy2(run / lease.NAME, copy)
                return lease.frees(lease.of(Path(copy)))
        except FileNotFoundError:  # it was released
            return not (run / lease.NAME).exists()
        except OSError:
            continue
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
