"""What a run is on disk: identity, state, metrics, checkpoints. Needs no torch.

A run lies in `<output_dir>/<experiment>/<prefix>-<hash of its choice>/`:

    config.yaml      its settings, resolved
    identity.json    those that decide its result: the hash in its name follows from them
    status.json      state, attempts, error, versions, device, digests of the code
    metrics.csv      a row an epoch
    summary.json     the final figures, flat keys
    train.log        what was logged while it was trained
    checkpoints/     last, previous (until it is finished) and best
    lease            who trains it, while it is being trained
    repeats/<n>/     what `force=true` replaced

Every file is replaced atomically. Whoever trains a run holds its lease (`cnnbench.run_store.attempt`): a run
that says "running" and is held by nobody was interrupted.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cnnbench.run_store import lease
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.identity import FORMAT, choice_of_format_1

DONE = ("finished", "diverged")

STATES = ("running", "finished", "failed", "diverged", "interrupted", "pruned")

RESULTS = {"train": {"test/acc"}, "bench": {"time/load_s", "parity/worst", "tune/layout"}}
"""By verb, figures of which a finished run has one."""


OBJECTIVES = {"train": "best/val_acc", "bench": "time/latency_p50_ms"}
"""By verb, the figure that a search looks at."""

STOP = "stop"
"""A file in a run's folder that asks for its end: who trains it looks for it after each epoch."""


def _number(text: str) -> float:
    """A cell of metrics.csv; whole numbers stay whole, so that they are written back as they were."""
    return int(text) if text.isdigit() else float(text)


def _is_there(path: Path) -> bool:
    """Whether there is such a file, also one in a folder that may not be looked into."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing when the file is absent or not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Run:
    """A run's folder, whether or not it exists yet.

    Attributes:
        planned: the choice that the settings came to, for a run that is to be made; see `run_store.identity`.
    """

    path: Path
    planned: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

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
        except (OSError, yaml.YAMLError, ValueError, RecursionError):  # not UTF-8, or no end of digits
            return {}
        return found if isinstance(found, dict) else {}

    def choice(self) -> dict[str, Any]:
        """Return what decided the result; empty where it cannot be read."""
        choice = _read_json(self.path / "identity.json").get("choice")
        if isinstance(choice, dict):
            return choice
        # An unknown format, or none, is read as far as possible; one of ours is never without its identity.
        return {} if self.format == FORMAT else choice_of_format_1(self.config())

    @property
    def format(self) -> int | None:
        """Format of the folder; None where status.json does not say."""
        value = self.status().get("format")
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def verb(self) -> str:
        """What was done: `train` or `bench`."""
        verb = self.status().get("verb")
        return verb if verb in RESULTS else "train"

    @property
    def state(self) -> str:
        """new, running, finished, failed, diverged or interrupted; damaged if status.json is not readable.

        A run without its figures is not finished, whatever its status says: asked for again, it is
        evaluated again.
        """
        state = self.status().get("state")
        if state is None:
            return "damaged" if _is_there(self.path / "status.json") else "new"
        if state == "finished" and not RESULTS[self.verb] & self.summary().keys():
            return "interrupted"
        return "interrupted" if state == "running" and lease.is_free(self.path) else str(state)

    @property
    def objective(self) -> float:
        """Best val accuracy, or of a measurement the latency in ms; NaN where there is none."""
        return float(self.summary().get(OBJECTIVES[self.verb], float("nan")))

    def rows(self) -> list[dict[str, float]]:
        """metrics.csv: a row an epoch, numbers as they were measured; none if it is absent or damaged."""
        try:
            return self.read_rows()
        except (OSError, ValueError):
            return []

    def read_rows(self) -> list[dict[str, float]]:
        """`rows`, for those who want to know why there are none.

        Raises:
            OSError: there is no such file, or it cannot be read.
            ValueError: it is damaged, and how.
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
        """Replace metrics.csv. Floats are written so that they read back to the last bit."""
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
