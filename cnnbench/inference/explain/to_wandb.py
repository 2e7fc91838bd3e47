"""The pictures as a W&B run of job type `explain`, in the experiment's folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnbench.run_store.run import Run
from cnnbench.tracking import wandb_report, wandb_run

NAME_LENGTH = 128
"""Most characters of a run's name."""


def log(runs: Sequence[Run], target: wandb_report.Target, files: Mapping[str, Path], page: str) -> None:
    """Log pictures and page; they replace those of the same runs.

    Args:
        runs: what the pictures are of.
        target: where they are logged.
        files: PNG files by name of the picture.
        page: HTML.

    Raises:
        InputError: the experiment's folder cannot be written, or W&B rejects the run.
    """
    import wandb

    names = [run.path.name for run in runs]
    folder = runs[0].path.resolve().parent
    identity = hashlib.sha256("\n".join([folder.name, *names]).encode()).hexdigest()[:16]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    options = {
        "id": f"{wandb_run.EXPLAIN}{identity}",
        "name": f"explain {names[0]}"[: NAME_LENGTH - len(more)] + more,
        "group": folder.name,
        "job_type": "explain",
        "config": {"runs": names},
    }

    def send(run: Any) -> None:
        media: dict[str, Any] = {f"explain/{name}": wandb.Image(str(file)) for name, file in files.items()}
        media["page"] = wandb.Html(page, inject=False, data_is_not_path=True)
        run.log(media, step=int(time.time()))  # a step that no earlier one had, as in a comparison

    wandb_report.log(folder, target, send, options)
