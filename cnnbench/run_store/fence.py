"""Fencing: once another process has taken over a run, nothing that this one does changes a file of it.

Checking a lease before a write is not enough: a process may be suspended between the two, for any time. All
that an attempt writes is therefore made in a folder of its own, `.attempt-<token of its lease>`, and renamed
from there. The next attempt begins by renaming that folder away, before it reads anything. From then on the
renames of the earlier process fail, wherever it was suspended; those that succeeded came before, and are part
of what the next attempt reads. No clock or lock is needed, and network disks rename files on their server.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from filelock import SoftFileLease

from cnnbench.errors import InputError, Superseded
from cnnbench.run_store import lease
from cnnbench.run_store.files import Files, delete, sync_folder

PREFIX = ".attempt-"
"""Prefix of the folders in which attempts write; a kill leaves one behind."""


class Fence(Files):
    """Writer of one attempt at a run.

    Args:
        run: the run's folder.
        held: its lease, which this process has just acquired.
    """

    def __init__(self, run: Path, held: SoftFileLease) -> None:
        assert held.token is not None
        self.run, self.token = run, held.token
        self.folder = run / f"{PREFIX}{self.token}"
        earlier = [path for path in run.iterdir() if path.name.startswith(PREFIX)]
        self.folder.mkdir()
        for folder in earlier:
            folder.rename(self.folder / folder.name)
        sync_folder(run)
        self.clear()

    def partial(self, path: Path) -> Path:
        """Return the path at which a file of the run is written until it is complete."""
        return self.folder / path.name

    def clear(self) -> None:
        """Delete incomplete files, which may fill the disk."""
        for path in self.folder.iterdir():
            delete(path)

    def close(self) -> None:
        """Delete the folder of this attempt; afterwards it cannot write any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def check(self) -> None:
        """Check that this process may still write to the run's folder.

        Raises:
            Superseded: it may not.
        """
        if reason := self.lost():
            raise Superseded(f"{self.run.name}: {reason}")

    def lost(self) -> str:
        """Return why this attempt may not write any more; an empty text as long as it may.

        Raises:
            OSError: the lease cannot be read.
        """
        try:
            marker = (self.run / lease.NAME).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return "its lease was released" if self.run.is_dir() else "its folder was removed"
        if f"token={self.token}\n" not in marker:
            return "another process took over"
        return "" if self.folder.is_dir() else "its files were removed"


SERVICE_LOG = "debug-core.log"
"""Name of the link from a log of W&B's to that of its service."""


def check_links(run: Path) -> None:
    """Check that a run's folder holds no link through which a write to it would change something elsewhere.

    Raises:
        InputError: it does.
    """
    if problem := link_in(run):
        raise InputError(f"{problem}; allowed: a folder of a run without links")


def link_in(run: Path) -> str:
    """Return a line about the first link in a run's folder; an empty text if there is none.

    W&B's own links do not count as long as they lead to something in the run's folder, nor does the one that
    each of its logs has to the log of W&B's service, in the user's cache: nothing writes through it later.
    """
    home = Path(os.path.realpath(run))
    for folder, names, files in os.walk(run):
        for path in (Path(folder, name) for name in (*names, *files)):
            if not path.is_symlink():
                continue
            target = Path(os.path.realpath(path))
            if (run / "wandb") in path.parents and (home in target.parents or path.name == SERVICE_LOG):
                continue
            return f"{path}: is a link (to {target}), which whatever is written to this run would follow"
    return ""
