"""What a run is on disk: identity, state, metrics, checkpoints. Needs no torch.

A run lies in `<output_dir>/<experiment>/<prefix>-<hash of its choice>/`:

    config.yaml      everything it was asked for, resolved
    status.json      state, attempts, error, versions, device
    metrics.csv      a row an epoch
    summary.json     the final figures, flat keys
    train.log        what was logged while it was trained
    checkpoints/     last, previous (until it is finished) and best
    repeats/<n>/     what `force=true` replaced

Every file is replaced atomically. Whoever trains a run holds `lock`, which the system lets go of
when the process ends in any way: a run that says "running" under a free lock was interrupted.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import socket
import subprocess
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cnnbench import __version__
from cnnbench.errors import Diverged, InputError, Interrupted

FORMAT = 1
STATES = ("running", "finished", "failed", "diverged", "interrupted")
KEPT_ON_FORCE = {"lock", "repeats"}


def identity(choice: Mapping[str, Any]) -> str:
    """Ten hex digits that follow from the choice alone: equal values give equal digits.

    Key order does not matter, nor whether a whole number is written as 1 or 1.0.
    """
    return hashlib.sha256(json.dumps(_canonical(choice), sort_keys=True).encode()).hexdigest()[:10]


def _canonical(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [_canonical(item) for item in value]
        case float() if value.is_integer():
            return int(value)
    return value


def write_atomic(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old content or the new, never a part."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _number(text: str) -> float:
    """A cell of metrics.csv; whole numbers stay whole, so that they are written back as they were."""
    return int(text) if text.isdigit() else float(text)


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing when the file is absent or not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Run:
    """A run's folder, whether or not it exists yet."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    def status(self) -> dict[str, Any]:
        """status.json; empty for a run that was never started, and for a file that is no status."""
        status = _read_json(self.path / "status.json")
        kinds = (status.get("state"), type(status.get("attempts")), type(status.get("device")))
        return status if kinds[0] in STATES and kinds[1:] == (list, dict) else {}

    def summary(self) -> dict[str, Any]:
        """summary.json; what is known while there is none."""
        return _read_json(self.path / "summary.json")

    def config(self) -> dict[str, Any]:
        """config.yaml: what the run was asked for, resolved; empty if there is none."""
        import yaml

        try:
            found = yaml.load((self.path / "config.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
        except (OSError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def state(self) -> str:
        """new, running, finished, failed, diverged or interrupted; damaged if status.json is not readable.

        A run without its figures is not finished, whatever its status says: asked for again, it is
        evaluated again.
        """
        state = self.status().get("state")
        if state is None:
            return "damaged" if (self.path / "status.json").exists() else "new"
        if state == "finished" and "test/acc" not in self.summary():
            return "interrupted"
        return "interrupted" if state == "running" and not self._locked() else str(state)

    def rows(self) -> list[dict[str, float]]:
        """metrics.csv: a row an epoch, numbers as they were measured; none if it is absent or damaged."""
        try:
            with (self.path / "metrics.csv").open(encoding="utf-8", newline="") as file:
                rows = [{k: _number(v) for k, v in row.items()} for row in csv.DictReader(file)]
        except (OSError, ValueError, TypeError, AttributeError, csv.Error):
            return []
        return rows if all("epoch" in row for row in rows) else []

    def write_rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace metrics.csv. Floats are written so that they read back to the last bit."""
        from io import StringIO

        text = StringIO()
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_atomic(self.path / "metrics.csv", text.getvalue())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace summary.json."""
        write_atomic(self.path / "summary.json", json.dumps(summary, indent=1) + "\n")

    def _write_status(self, status: Mapping[str, Any]) -> None:
        write_atomic(self.path / "status.json", json.dumps(status, indent=1) + "\n")

    def _lock(self) -> FileLock:
        return FileLock(self.path / "lock", timeout=0)

    def _locked(self) -> bool:
        """Whether a living process trains this run."""
        try:
            with self._lock():
                return False
        except Timeout:
            return True
        except OSError:  # a folder that may only be read: nobody here can tell
            return True

    @contextmanager
    def attempt(self, config: str, device: Mapping[str, Any], *, afresh: bool) -> Iterator[dict[str, Any]]:
        """Train this run: hold its lock, record how the attempt starts and how it ends.

        Args:
            config: the text of config.yaml.
            device: what the device settings became, recorded at the first start.
            afresh: move what is there to `repeats/` first, and start from nothing.

        Yields:
            The status as it was written; `repeats` counts the forced repeats.

        Raises:
            InputError: the folder cannot be written, or another process trains this run.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = self._lock().acquire()
        except Timeout:
            status = self.status()
            raise InputError(
                f"{self.path}: is being trained by process {status.get('pid')} on {status.get('host')}"
            ) from None
        except OSError as error:
            raise InputError(f"output_dir: {self.path} cannot be written ({error.strerror})") from None
        with lock:
            if afresh:
                self._set_aside()
            status = self._begin(device)
            self.checkpoints.mkdir(exist_ok=True)
            write_atomic(self.path / "config.yaml", config)
            try:
                yield status
            except Diverged as error:
                self._end(status, "diverged", error)
            except (Interrupted, KeyboardInterrupt, SystemExit) as error:
                self._end(status, "interrupted", error)
                raise
            except BaseException as error:
                self._end(status, "failed", error)
                raise
            else:
                self._end(status, "finished")

    def _begin(self, device: Mapping[str, Any]) -> dict[str, Any]:
        before = self.status()
        status = {
            "format": FORMAT,
            "state": "running",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "device": before.get("device") or dict(device),
            "versions": versions(),
            "git": git_commit(),
            "repeats": len(list((self.path / "repeats").glob("*"))),
            "attempts": [*before.get("attempts", []), {"started": now()}],
        }
        self._write_status(status)
        return status

    def _end(self, status: dict[str, Any], state: str, error: BaseException | None = None) -> None:
        for partial in self.checkpoints.glob(".*"):  # half a checkpoint, and perhaps a disk full of it
            partial.unlink(missing_ok=True)
        status["state"] = state
        status["attempts"][-1] |= {"ended": now(), "state": state}
        if error is not None:
            status["error"] = {
                "type": type(error).__name__,
                "message": str(error),
                "traceback": "".join(traceback.format_exception(error)),
            }
        self._write_status(status)

    def _set_aside(self) -> None:
        """Move everything to `repeats/<n>/`, status first: a run half moved is not a finished one."""
        if not (self.path / "status.json").exists():
            return
        repeats = self.path / "repeats"
        aside = repeats / str(len(list(repeats.glob("*"))))
        aside.mkdir(parents=True)
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry.name != "status.json"):
            if entry.name not in KEPT_ON_FORCE:
                entry.rename(aside / entry.name)


def find(path: Path) -> list[Run]:
    """The run at `path`, or all runs below it, by path.

    Raises:
        InputError: there is no such folder.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder")
    if (path / "status.json").is_file():
        return [Run(path)]
    found = []
    for where, folders, names in os.walk(path):
        if "status.json" in names:
            found.append(Run(Path(where)))
            folders.clear()  # what a run was before force=true is not a run of its own
    return sorted(found, key=lambda run: run.path)


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
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True)
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
        edited = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "."], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if edited else "")
