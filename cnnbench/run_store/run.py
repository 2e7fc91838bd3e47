"""Run folders: identity, state, metrics, checkpoints. Needs no torch.

The folder of a run is `<output_dir>/<experiment>/<prefix>-<hash of its choice>/`:

    config.yaml      resolved settings
    identity.json    settings that decide the result: the hash in the folder's name follows from them
    status.json      state, attempts, error, versions, device, digests of the code
    metrics.csv      one row per epoch
    summary.json     final metrics, flat keys
    train.log        log of the training
    checkpoints/     last, previous (until the run is finished) and best
    lease            the process that trains the run, while it is being trained
    repeats/<n>/     earlier results, replaced by `force=true`

Every file is replaced atomically. The process that trains a run holds its lease
(`cnnbench.run_store.attempt`): a run whose status is "running" but whose lease nobody holds was interrupted.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnbench.run_store import unwritable
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.identity import FORMAT, choice_of_format_1

DONE = ("finished", "diverged")
"""States that are final: such a run is not trained again."""

STATES = ("running", "finished", "failed", "diverged", "interrupted", "pruned")
"""States that status.json may record."""

RESULTS = {"train": {"test/acc"}, "bench": {"time/load_s", "parity/worst", "tune/layout"}}
"""Summary keys by verb; a finished run has one of them."""

OBJECTIVES = {"train": "best/val_acc", "bench": "time/latency_p50_ms"}
"""Summary key that a search optimises, by verb."""

LARGEST = 2**22
"""Bytes of a JSON file that a run may have; a larger one is not of cnnbench."""

STOP = "stop"
"""File in a run's folder that asks for the end of the run; the training checks for it after each epoch."""


def _number(text: str) -> float:
    """Read a cell of metrics.csv; integers stay integers, so that they are written back unchanged."""
    return int(text) if text.isdigit() else float(text)


def _is_there(path: Path) -> bool:
    """Return whether a file exists; True also if its folder may not be searched."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; return an empty one if the file is missing or holds something else."""
    try:
        if path.stat().st_size > LARGEST:
            return {}
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class Run:
    """Folder of a run, which may not exist yet.

    Attributes:
        path: the folder.
        planned: the choice behind a run that is to be made; see `run_store.identity`.
    """

    path: Path
    planned: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def status(self) -> dict[str, Any]:
        """Read status.json; empty for a run that was never started, and for a file that is not a status."""
        status = _read_json(self.path / "status.json")
        kinds = (status.get("state"), type(status.get("attempts")), type(status.get("device")))
        return status if kinds[0] in STATES and kinds[1:] == (list, dict) else {}

    def summary(self) -> dict[str, Any]:
        """Read summary.json, which an unfinished run may have, too; empty if it is missing."""
        return _read_json(self.path / "summary.json")

    def config(self) -> dict[str, Any]:
        """Read config.yaml, the resolved settings; empty if it is missing or damaged."""
        import yaml

        try:
            config = yaml.load((self.path / "config.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
        except (OSError, yaml.YAMLError, ValueError, RecursionError):  # not UTF-8, or an endless number
            return {}
        return config if isinstance(config, dict) else {}

    def choice(self) -> dict[str, Any]:
        """Return the settings that decided the result; empty if they cannot be read."""
        choice = _read_json(self.path / "identity.json").get("choice")
        if isinstance(choice, dict):
            return choice
        # An unknown format, or none, is read as far as possible; one of ours is never without its identity.
        return {} if self.format == FORMAT else choice_of_format_1(self.config())

    @property
    def format(self) -> int | None:
        """Format of the folder; None if status.json does not record it."""
        value = self.status().get("format")
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def verb(self) -> str:
        """Verb that made the run: `train` or `bench`."""
        verb = self.status().get("verb")
        return verb if verb in RESULTS else "train"

    @property
    def state(self) -> str:
        """State of the run: one of `STATES`; `new` without status.json, `damaged` if that cannot be read.

        A run without its final metrics counts as interrupted even if its status is "finished": running the
        same command again evaluates it again.
        """
        state = self.status().get("state")
        if state is None:
            return "damaged" if _is_there(self.path / "status.json") else "new"
        if state == "finished" and not RESULTS[self.verb] & self.summary().keys():
            return "interrupted"
        return "interrupted" if state == "running" and unwritable.is_free(self.path) else str(state)

    @property
    def objective(self) -> float:
        """Best val accuracy, or the latency in ms of a measurement; NaN if there is none."""
        return float(self.summary().get(OBJECTIVES[self.verb], float("nan")))

    def rows(self) -> list[dict[str, float]]:
        """Read metrics.csv, one row per epoch; empty if it is missing or damaged."""
        try:
            return self.read_rows()
        except (OSError, ValueError):
            return []

    def read_rows(self) -> list[dict[str, float]]:
        """Read metrics.csv, one row per epoch; unlike `rows`, report why it cannot be read.

        Raises:
            OSError: it is missing, or cannot be read.
            ValueError: it is damaged; the message says how.
        """
        with (self.path / "metrics.csv").open(encoding="utf-8", newline="") as file:
            text = file.read()
        if text and not text.endswith("\n"):
            raise ValueError("is cut off")
        try:
            lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
        except csv.Error as error:
            raise ValueError(str(error)) from None
        headers = lines.pop(0) if lines else []
        if any(len(line) != len(headers) for line in lines):
            raise ValueError("has rows of different lengths")
        if lines and "epoch" not in headers and "batch" not in headers:
            raise ValueError("has no column epoch")
        return [dict(zip(headers, map(_number, line), strict=True)) for line in lines]

    def write_rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace metrics.csv; floats read back exactly."""
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        write_atomic(self.path / "metrics.csv", text.getvalue())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace summary.json."""
        write_atomic(self.path / "summary.json", json.dumps(summary, indent=1) + "\n")

    def write_identity(self) -> None:
        """Write identity.json once, for a run that was planned from settings."""
        path = self.path / "identity.json"
        if self.planned is not None and not path.exists():
            text = json.dumps({"format": FORMAT, "choice": self.planned}, indent=1)
            write_atomic(path, text + "\n")

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace status.json."""
        write_atomic(self.path / "status.json", json.dumps(status, indent=1) + "\n")
