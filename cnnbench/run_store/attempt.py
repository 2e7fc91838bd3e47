"""One attempt at a run, from its start to its end. Needs no torch."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from filelock import LeaseSettingsMismatch, Timeout

from cnnbench import __version__
from cnnbench.console import console
from cnnbench.errors import Busy, Diverged, InputError, Interrupted, Pruned, Superseded
from cnnbench.run_store import lease
from cnnbench.run_store.content import METRICS, check_replaceable
from cnnbench.run_store.fence import PREFIX, Fence, check_links
from cnnbench.run_store.files import delete, make_folder, sync_folder
from cnnbench.run_store.identity import FORMAT
from cnnbench.run_store.run import DONE, LOG, STOP, Run

PACKAGE = Path(__file__).parents[1]

REPEATS, MOVING = "repeats", ".moving"
"""Folder of earlier results, and the name of the one among them that is still being moved there."""

KEPT_ON_FORCE = {lease.NAME, REPEATS}
"""Entries of a run's folder that `force=true` does not move to `repeats/`, besides those of attempts."""


@dataclass(frozen=True)
class Attempt:
    """Attempt at a run by this process.

    Attributes:
        run: the run that is trained or measured; what is written through it is fenced.
        status: content of status.json; `repeats` counts the forced repeats.
        fence: writes the run's files as long as this process may.
        log: the run's log, open for appending.
    """

    run: Run
    status: dict[str, Any]
    fence: Fence
    log: TextIO

    def check(self) -> None:
        """Check that the attempt is to go on.

        Raises:
            Superseded: another process took over, as this one had not renewed its lease for too long.
            Pruned: a search has asked for the end of the run.
        """
        self.fence.check()
        if (self.run.path / STOP).exists():
            raise Pruned("it falls behind other trials of the search")


@contextmanager
def attempt(
    run: Run,
    config: str,
    device: Mapping[str, Any],
    *,
    afresh: bool,
    verb: str = "train",
    code: Mapping[str, str] | None = None,
) -> Iterator[Attempt]:
    """Hold the lease of a run, and record how the attempt starts and how it ends.

    Args:
        run: the run; its folder is created if it does not exist.
        config: the text of config.yaml.
        device: the resolved device settings, recorded at the first start.
        afresh: move the results of earlier attempts to `repeats/` and start from scratch.
        verb: `train` or `bench`.
        code: digests of the shipped code that the run uses, recorded beside the versions.

    Yields:
        The attempt.

    Raises:
        Busy: another process trains this run, or has just finished it.
        InputError: the folder cannot be written to.
    """
    check_links(run.path)
    check_replaceable(run.path)
    held = lease.of(run.path)
    try:
        make_folder(run.path)
        held.acquire()
        fence = Fence(run.path, held)
    except (Timeout, LeaseSettingsMismatch):
        raise Busy(run.path, run.status()) from None
    except OSError as error:
        lease.release(held)
        raise InputError(f"output_dir: {run.path} cannot be written ({error.strerror})") from None
    try:
        with fenced(run, fence):
            if afresh:
                _set_aside(run, fence)
            elif run.state in DONE:  # by another process, since this one last checked
                raise Busy(run.path, run.status())
            _complete_move(run, fence)
            fence.remove(run.path / STOP)  # meant for an earlier attempt
            this = _begin(replace(run, files=fence), fence, config, device, verb, dict(code or {}))
            with closing(this.log), _recorded(this):
                yield this
    finally:
        lease.release(held)


@contextmanager
def fenced(run: Run, fence: Fence) -> Iterator[None]:
    """Report every error of an attempt that another process has taken over as that.

    Raises:
        Superseded: another process took over.
    """
    try:
        yield
    except (OSError, Superseded) as error:
        reason = fence.lost()
        if not reason:
            raise
        lost = Superseded(f"{run.path.name}: {reason}; what this process was about to write is not written")
        console.print(str(lost), style="yellow", highlight=False, soft_wrap=True, markup=False)
        raise lost from error
    finally:
        fence.close()


@contextmanager
def _recorded(this: Attempt) -> Iterator[None]:
    """Record how an attempt ends."""
    try:
        yield
        this.check()
    except Superseded:
        raise  # the run belongs to another process now
    except Diverged as error:
        _end(this, "diverged", error)
    except Pruned as error:
        this.fence.remove(this.run.path / STOP)
        _end(this, "pruned", error)
    except (Interrupted, KeyboardInterrupt, SystemExit) as error:
        _end(this, "interrupted", error)
        raise
    except BaseException as error:
        _end(this, "failed", error)
        raise
    else:
        _end(this, "finished")


def _begin(
    run: Run, fence: Fence, config: str, device: Mapping[str, Any], verb: str, code: dict[str, str]
) -> Attempt:
    """Record the start of an attempt."""
    content = run.content()
    if content.is_damaged(METRICS):
        fence.remove(run.path / METRICS)  # it is written anew from the checkpoint
    previous = content.status
    attempts = previous.get("attempts", [])
    for earlier in attempts:
        earlier.setdefault("state", "interrupted")  # it was killed before it could record its end
    status = {
        "format": FORMAT,
        "verb": verb,
        "state": "running",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        # A resumed training keeps its device settings; a measurement starts anew, perhaps on another machine.
        "device": (verb == "train" and previous.get("device")) or dict(device),
        "versions": versions(),
        "git": git_commit(),
        "code": code,
        "repeats": _repeats(run),
        "attempts": [*attempts, {"started": now()}],
    }
    run.write_status(status)
    run.checkpoints.mkdir(exist_ok=True)
    fence.write(run.path / "config.yaml", config)
    run.write_identity()
    return Attempt(run, status, fence, _open_log(run.path / LOG, fence))


def _open_log(path: Path, fence: Fence) -> TextIO:
    """Replace the log by a copy, and open that: an earlier process that wakes appends to the one replaced."""
    partial = fence.partial(path)
    with suppress(FileNotFoundError):
        shutil.copyfile(path, partial)
    log = partial.open("a", encoding="utf-8")
    fence.move(partial, path)
    return log


def _end(this: Attempt, state: str, error: BaseException | None = None) -> None:
    this.fence.check()
    this.fence.clear()  # incomplete checkpoints may fill the disk
    status = this.status
    status["state"] = state
    status["attempts"][-1] |= {"ended": now(), "state": state}
    if error is not None:
        status["error"] = {
            "type": type(error).__name__,
            "message": str(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
    this.run.write_status(status)


def _repeats(run: Run) -> int:
    """Return how often `force=true` has replaced the results of a run."""
    numbers = (path.name for path in (run.path / REPEATS).glob("*"))
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)


def _set_aside(run: Run, fence: Fence) -> None:
    """Begin to move everything to `repeats/`; status.json first: a half-moved run must not look finished."""
    status = run.path / "status.json"
    if status.exists():
        moving = run.path / REPEATS / MOVING
        moving.mkdir(parents=True, exist_ok=True)
        fence.check()
        status.rename(moving / status.name)
        for folder in (moving, moving.parent, run.path):  # a loss of power must not leave it in none of them
            sync_folder(folder)


def _complete_move(run: Run, fence: Fence) -> None:
    """Complete what `_set_aside` has begun, in this attempt or in an earlier one that was killed."""
    moving = run.path / REPEATS / MOVING
    if not moving.is_dir():
        return
    if (moving / "status.json").exists():
        for entry in sorted(run.path.iterdir()):
            if entry.name not in KEPT_ON_FORCE and not entry.name.startswith(PREFIX):
                fence.check()
                if (moving / entry.name).exists():  # after a loss of power it may stand in both folders
                    delete(entry)
                else:
                    entry.rename(moving / entry.name)
        sync_folder(moving)
        sync_folder(run.path)  # or a loss of power may bring back what a new attempt would take for its own
        moving.rename(moving.with_name(str(_repeats(run))))
        sync_folder(moving.parent)
    else:  # killed before it had moved anything
        moving.rmdir()


def now() -> str:
    """Return the time in UTC, to the second (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def versions() -> dict[str, str]:
    """Return the versions of what can change a result: cnnbench, Python and the numerical libraries."""
    names = ("torch", "torchvision", "lightning", "numpy")
    return {"cnnbench": __version__, "python": platform.python_version()} | {
        n: metadata.version(n) for n in names
    }


@cache
def git_commit() -> str | None:
    """Return the commit of this cnnbench, with `+` if files were edited since; None outside a checkout."""
    git = ["git", "-C", str(PACKAGE)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True)
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        edited = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "."], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if edited else "")
