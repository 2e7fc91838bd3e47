"""Run folders: identity, state, metrics, checkpoints. Needs no torch.

The folder of a run is `<output_dir>/<experiment>/<prefix>-<hash of its choice>/`:

    config.yaml      resolved settings
    identity.json    settings that decide the result: the hash in the folder's name follows from them
    status.json      state, attempts, error, versions, device, digests of the code and of the other files
    metrics.csv      one row per epoch
    summary.json     final metrics, flat keys
    train.log        log of the training
    probes/          what probes measured, one CSV file each
    checkpoints/     last and best; previous and previous_best until the run is finished
    lease            the process that trains the run, while it is being trained
    .attempt-<token>/  what that process has not completed yet (`cnnbench.run_store.fence`)
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

from cnnbench.run_store import probes
from cnnbench.run_store.content import IDENTITY, METRICS, STATUS, SUMMARY, Content, content, sealed
from cnnbench.run_store.files import FILES, Files, make_folder
from cnnbench.run_store.identity import FORMAT

DONE = ("finished", "diverged")
"""States that are final: such a run is not trained again."""

OBJECTIVES = {"train": "best/val_acc", "bench": "time/latency_p50_ms"}
"""Summary key that a search optimises, by verb."""

LOG = "train.log"
"""File of a run's log."""

STOP = "stop"
"""File in a run's folder that asks for the end of the run; the training checks for it after each epoch."""


@dataclass(frozen=True)
class Run:
    """Folder of a run, which may not exist yet.

    Attributes:
        path: the folder.
        planned: the choice behind a run that is to be made; see `run_store.identity`.
        files: writes the run's files; that of an attempt does so only as long as the attempt may.
    """

    path: Path
    planned: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    files: Files = field(default=FILES, compare=False, repr=False)

    @property
    def identity(self) -> str:
        """Digits at the end of the folder's name, which follow from the choice; see `run_store.identity`."""
        return self.path.name.rpartition("-")[2]

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    def content(self) -> Content:
        """Read all files at once: for several questions about the same state of the run."""
        return content(self.path)

    def status(self) -> dict[str, Any]:
        """Read status.json; empty for a run that was never started, and for a file that is not a status."""
        return Content(self.path).status

    def summary(self) -> dict[str, Any]:
        """Read summary.json, which an unfinished run may have, too; empty if it is missing or damaged."""
        return Content(self.path).summary

    def config(self) -> dict[str, Any]:
        """Read config.yaml, the resolved settings; empty if it is missing or damaged."""
        return Content(self.path).config

    def rows(self) -> list[dict[str, float]]:
        """Read metrics.csv, one row per epoch; empty if it is missing or damaged."""
        return Content(self.path).rows

    def choice(self) -> dict[str, Any]:
        """Return the settings that decided the result; empty if they cannot be read."""
        return Content(self.path).choice

    @property
    def format(self) -> int | None:
        """Format of the folder; None if status.json does not record it."""
        return Content(self.path).format

    @property
    def verb(self) -> str:
        """Verb that made the run: `train` or `bench`."""
        return Content(self.path).verb

    @property
    def state(self) -> str:
        """State of the run: one of `STATES`; `new` without status.json; `damaged`, see `damage`."""
        return self.content().state

    @property
    def damage(self) -> list[str]:
        """A line for each damaged file, which says what is wrong with it."""
        return self.content().damage

    @property
    def objective(self) -> float:
        """Best val accuracy, or the latency in ms of a measurement; NaN if there is none."""
        content = Content(self.path)
        return float(content.summary.get(OBJECTIVES[content.verb], float("nan")))

    def write_rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Replace metrics.csv; floats read back exactly."""
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        self.files.write(self.path / METRICS, text.getvalue())

    def write_probe(self, name: str, table: probes.Table) -> None:
        """Replace the file of a probe."""
        path = probes.place(self.path, name)
        make_folder(path.parent)
        self.files.write(path, probes.text(table))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace summary.json."""
        self.files.write(self.path / SUMMARY, json.dumps(summary, indent=1) + "\n")

    def write_identity(self) -> None:
        """Write identity.json for a run that was planned from settings, unless it is there and undamaged."""
        if self.planned is not None and not Content(self.path).identity:
            text = json.dumps({"format": FORMAT, "choice": self.planned}, indent=1)
            self.files.write(self.path / IDENTITY, text + "\n")

    def write_status(self, status: Mapping[str, Any]) -> None:
        """Replace status.json, with its checksum and, once the run has ended, the digests of its files."""
        self.files.write(self.path / STATUS, json.dumps(sealed(self.path, status), indent=1) + "\n")
