"""One attempt at a run: who makes it, how it starts and how it ends. Needs no torch."""

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


@dataclass(frozen=True)
class Attempt:
    """The attempt that this process makes.

    Attributes:
        status: as it was written; `repeats` counts the forced repeats.
    """

    run: Run
    status: dict[str, Any]
    lease: SoftFileLease

    def check(self) -> None:
        """To be called before anything is written.

        Raises:
            Superseded: this process gave no sign of life for so long that another one took over.
            Pruned: a search asks for the end of the run.
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
    """Train a run: hold its lease, record how the attempt starts and how it ends.

    Args:
        run: its folder is made if there is none.
        config: the text of config.yaml.
        device: what the device settings became, recorded at the first start.
        afresh: move what is there to `repeats/` first, and start from nothing.
        verb: what is done: `train` or `bench`.
        code: digests of cnnbench's own code that is used, recorded beside the versions.

    Raises:
        Busy: another process trains this run, or has just finished it.
        InputError: the folder cannot be written.
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
        elif run.state in DONE:  # since this process last looked
            raise Busy(run.path, run.status())
        (run.path / STOP).unlink(missing_ok=True)  # asked of an earlier attempt
        status = _begin(run, device, verb, dict(code or {}))
        run.checkpoints.mkdir(exist_ok=True)
        write_atomic(run.path / "config.yaml", config)
        run.write_identity()
        this = Attempt(run, status, held)
        try:
            yield this
            this.check()
        except Superseded:
            raise  # the run is somebody else's now
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
    before = run.status()
    attempts = before.get("attempts", [])
    for earlier in attempts:
        earlier.setdefault("state", "interrupted")  # it was killed, and could not say so itself
    status = {
        "format": FORMAT,
        "verb": verb,
        "state": "running",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        # A training goes on as it began; a measurement begins anew, perhaps on another machine.
        "device": (verb == "train" and before.get("device")) or dict(device),
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
    for partial in this.run.checkpoints.glob(".*"):  # half a checkpoint, and perhaps a disk full of it
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
    """Move everything to `repeats/<n>/`, status first: a run half moved is not a finished one."""
    if not (run.path / "status.json").exists():
        return
    repeats = run.path / "repeats"
    aside = repeats / str(len(list(repeats.glob("*"))))
    aside.mkdir(parents=True)
    for entry in sorted(run.path.iterdir(), key=lambda entry: entry.name != "status.json"):
        if entry.name not in KEPT_ON_FORCE:
            entry.rename(aside / entry.name)


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def versions() -> dict[str, str]:
    """What can change a number: cnnbench, Python and the libraries that compute."""
    names = ("torch", "torchvision", "lightning", "numpy")
    return {"cnnbench": __version__, "python": platform.python_version()} | {
        n: metadata.version(n) for n in names
    }


@cache
def git_commit() -> str | None:
    """The commit of the cnnbench that runs, with `+` if it was edited; None outside a checkout."""
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
