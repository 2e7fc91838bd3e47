"""One attempt at a run, from its start to its end. Needs no torch."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from cnnbench import __version__
from cnnbench.errors import Busy, Diverged, InputError, Interrupted, Pruned, Superseded
from cnnbench.run_store import lease
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.identity import FORMAT
from cnnbench.run_store.run import DONE, STOP, Run

PACKAGE = Path(__file__).parents[1]

KEPT_ON_FORCE = {lease.NAME, "repeats"}
"""Entries of a run's folder that `force=true` does not move to `repeats/`."""


@dataclass(frozen=True)
class Attempt:
    """Attempt at a run by this process.

    Attributes:
        run: the run that is trained or measured.
        status: content of status.json; `repeats` counts the forced repeats.
        lease: held for the length of the attempt.
    """

    run: Run
    status: dict[str, Any]
    lease: SoftFileLease

    def check(self) -> None:
        """Check that this process may still write to the run's folder; call it before each write.

        Raises:
            Superseded: another process took over, as this one had not renewed its lease for too long.
            Pruned: a search has asked for the end of the run.
        """
        if self.lease.compromise is not None:
            raise Superseded(f"{self.run.path}: another process took over ({self.lease.compromise.reason})")
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
    held = lease.of(run.path)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except (Timeout, LeaseSettingsMismatch):
        raise Busy(run.path, run.status()) from None
    except OSError as error:
        raise InputError(f"output_dir: {run.path} cannot be written ({error.strerror})") from None
    try:
        if afresh:
            _set_aside(run)
        elif run.state in DONE:  # by another process, since this one last checked
            raise Busy(run.path, run.status())
        (run.path / STOP).unlink(missing_ok=True)  # meant for an earlier attempt
        status = _begin(run, device, verb, dict(code or {}))
        run.checkpoints.mkdir(exist_ok=True)
        write_atomic(run.path / "config.yaml", config)
        run.write_identity()
        this = Attempt(run, status, held)
        try:
            yield this
            this.check()
        except Superseded:
            raise  # the run belongs to another process now
        except Diverged as error:
            _end(this, "diverged", error)
        except Pruned as error:
            (run.path / STOP).unlink()
            _end(this, "pruned", error)
        except (Interrupted, KeyboardInterrupt, SystemExit) as error:
            _end(this, "interrupted", error)
            raise
        except BaseException as error:
            _end(this, "failed", error)
            raise
        else:
            _end(this, "finished")
    finally:
        held.release()


def _begin(run: Run, device: Mapping[str, Any], verb: str, code: dict[str, str]) -> dict[str, Any]:
    previous = run.status()
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
        "repeats": len(list((run.path / "repeats").glob("*"))),
        "attempts": [*attempts, {"started": now()}],
    }
    run.write_status(status)
    return status


def _end(this: Attempt, state: str, error: BaseException | None = None) -> None:
    this.check()
    for partial in this.run.checkpoints.glob(".*"):  # incomplete checkpoints, which may fill the disk
        partial.unlink(missing_ok=True)
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


def _set_aside(run: Run) -> None:
    """Move everything to `repeats/<n>/`, status.json first: a half-moved run must not look finished."""
    if not (run.path / "status.json").exists():
        return
    repeats = run.path / "repeats"
    aside = repeats / str(len(list(repeats.glob("*"))))
    aside.mkdir(parents=True)
    for entry in sorted(run.path.iterdir(), key=lambda entry: entry.name != "status.json"):
        if entry.name not in KEPT_ON_FORCE:
            entry.rename(aside / entry.name)


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
