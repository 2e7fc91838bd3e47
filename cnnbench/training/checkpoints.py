"""Checkpoints of a run: written atomically, loaded to resume, and stripped once the run is finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from cnnbench.console import console
from cnnbench.run_store.files import replacing
from cnnbench.run_store.run import Run

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"

Row = Mapping[str, float]
"""Metrics of one epoch."""


def best_row(rows: Sequence[Row]) -> Row:
    """Return the row of the best epoch: highest val/acc, then lowest val/loss, then the earliest."""
    return max(rows, key=lambda row: (row["val/acc"], -row["val/loss"], -row["epoch"]))


class PlainCheckpoints(TorchCheckpointIO):
    """Writer of checkpoints that replaces them atomically; Lightning's own goes through the system's /tmp."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Replace the file atomically."""
        with replacing(Path(path)) as file:
            torch.save(checkpoint, file)


def resumable(run: Run) -> tuple[Path | None, list[dict[str, float]]]:
    """Return the checkpoint to resume from, and the rows of the epochs that it has completed.

    If the last checkpoint does not load (after a full disk, or a crash of the machine), the one before it
    is used.
    """
    for name in (LAST, PREVIOUS):
        path = run.checkpoints / name
        if not path.exists() or (checkpoint := _loaded(path)) is None:
            continue
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        rows = [row for row in run.rows() if row["epoch"] < done]
        if len(rows) == done and (not rows or _loaded(run.checkpoints / BEST) is not None):
            return path, rows
    return None, []


def _loaded(path: Path) -> dict[str, Any] | None:
    """Load a checkpoint whose tensors are read from disk on demand; return None if it does not load."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # type: ignore[no-any-return]
    except Exception as error:  # torch has no exception of its own for a damaged file
        console.print(f"{path} does not load ({error}): skipped", style="yellow", highlight=False)
        return None


def strip(run: Run) -> None:
    """Delete what is only needed to resume: optimizer states, and the previous checkpoint."""
    for path in (run.checkpoints / BEST, run.checkpoints / LAST):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["optimizer_states"] = []
        with replacing(path) as file:
            torch.save(checkpoint, file)
    (run.checkpoints / PREVIOUS).unlink(missing_ok=True)
    for partial in run.checkpoints.glob(".*"):
        partial.unlink(missing_ok=True)
