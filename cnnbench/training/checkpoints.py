"""Checkpoints of a run: sealed, verified whenever they are read, and stripped once the run is finished.

Two pairs of files are kept while a run trains, each of which suffices to go on: `last` with `best`, the
weights of the best epoch up to it, and `previous` with `previous_best`. Each checkpoint includes the rows of
metrics.csv.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from cnnbench.console import console
from cnnbench.errors import InputError
from cnnbench.run_store.run import Run
from cnnbench.run_store.seal import Damaged, seal, verify
from cnnbench.training.monitor import best_row

BEST, LAST = "best.ckpt", "last.ckpt"
PREVIOUS, PREVIOUS_BEST = "previous.ckpt", "previous_best.ckpt"

RECORD = "cnnbench"
"""Key under which a checkpoint has the run that it belongs to, and the rows of the epochs so far."""


def write_checkpoint(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint, and seal it."""
    with path.open("w+b") as file:
        torch.save(content, file)
        seal(file)
        file.flush()
        os.fsync(file.fileno())


def read_checkpoint(path: Path, *, lazily: bool = False) -> Any:
    """Read a checkpoint or a weight file after verifying it: torch itself notices no damage.

    Args:
        path: the file.
        lazily: read tensors from the disk when they are used.

    Raises:
        Damaged: the file is not as it was written.
        OSError: it cannot be read.
        Exception: it is not of torch, or contains objects other than tensors and plain values, which could
            run code. torch has no exception of its own for these.
    """
    if not verify(path) and lazily:  # torch's own message would not name the file
        raise Damaged(f"{path}: is not a checkpoint")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=lazily or None)


class SealedCheckpoints(TorchCheckpointIO):
    """Reader and writer of sealed checkpoints; Lightning's own writes through the system's /tmp."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint to a path at which nobody reads it yet; see `Recorder`."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint after verifying it."""
        return read_checkpoint(Path(path))  # type: ignore[no-any-return]


def resumable(run: Run, monitor: str) -> tuple[Path | None, list[dict[str, float]]]:
    """Return the checkpoint to resume from, and the rows of the epochs that it has completed.

    A checkpoint that cannot be used in full gives way to the one before it, and a line says so.

    Args:
        run: its folder.
        monitor: the metric that decides which epoch is the best.

    Raises:
        InputError: a row of metrics.csv differs from the one in the checkpoint.
    """
    last, best = run.checkpoints / LAST, run.checkpoints / BEST
    pairs = ((last, best), (run.checkpoints / PREVIOUS, run.checkpoints / PREVIOUS_BEST))
    for path, its_best in pairs:
        try:
            rows = _rows(run, path)
            if rows:
                _check_best(run, its_best, rows, monitor)
        except FileNotFoundError:
            continue
        except Exception as error:  # torch has no exception of its own for a damaged file
            console.print(f"{error}; {path.name} is skipped", style="yellow", highlight=False, soft_wrap=True)
            continue
        _check_recorded(run, rows)
        if path != last:  # the pair that cannot be used must not become the previous one
            run.files.link(last, path)
            if rows:
                run.files.link(best, its_best)
        return last, rows
    return None, []


def _rows(run: Run, path: Path) -> list[dict[str, float]]:
    """Return the rows in a checkpoint of a run.

    Raises:
        Damaged: it is another run's, or not of a training.
        Exception: see `read_checkpoint`.
    """
    checkpoint = read_checkpoint(path, lazily=True)
    record = checkpoint.get(RECORD) if isinstance(checkpoint, dict) else None
    if not isinstance(record, dict) or record.get("run") != run.identity:
        raise Damaged(f"{path}: is not a checkpoint of this run")
    rows: list[dict[str, float]] = record["rows"]
    done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if len(rows) != done:
        raise Damaged(f"{path}: has {len(rows)} rows for {done} epochs")
    return rows


def _check_best(run: Run, path: Path, rows: list[dict[str, float]], monitor: str) -> None:
    """Check that a file has the weights of the best of these epochs.

    Raises:
        Damaged: it has not, or is missing.
        Exception: see `read_checkpoint`.
    """
    try:
        best = _rows(run, path)
    except FileNotFoundError:
        raise Damaged(f"{path}: is missing") from None
    if not best or best[-1]["epoch"] != best_row(rows, monitor)["epoch"]:
        raise Damaged(f"{path}: is not of the best epoch")


def _check_recorded(run: Run, rows: list[dict[str, float]]) -> None:
    """Check that metrics.csv says the same as the checkpoint; a kill leaves a row too many, or too few.

    Raises:
        InputError: it has other values.
    """
    for row, recorded in zip(rows, run.rows(), strict=False):
        for key in row.keys() | recorded.keys():
            if row.get(key) != recorded.get(key):
                raise InputError(
                    f"{run.path / 'metrics.csv'}: {key} of epoch {row['epoch']} is {recorded.get(key)}, but "
                    f"{row.get(key)} in the checkpoint; allowed: the file as it was written, or none (it is "
                    "written anew from the checkpoint)"
                )


def strip(run: Run) -> None:
    """Delete what is only needed to resume: optimizer states, and the previous checkpoint."""
    for path in (run.checkpoints / BEST, run.checkpoints / LAST):
        checkpoint = read_checkpoint(path)
        checkpoint["optimizer_states"] = []
        partial = run.files.partial(path)
        write_checkpoint(checkpoint, partial)
        run.files.move(partial, path)
    for name in (PREVIOUS, PREVIOUS_BEST):
        run.files.remove(run.checkpoints / name)
