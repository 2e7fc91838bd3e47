"""The finished run that a user names on the command line."""

from __future__ import annotations

import os
from pathlib import Path

from cnnbench.errors import InputError
from cnnbench.run_store import probes
from cnnbench.run_store.content import SEALED, STATUS
from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

NAMED = 6
"""Number of runs that an error lists at most."""


def finished(path: Path) -> Run:
    """Return the finished run at a path: its folder, its `best.ckpt`, or a folder with no other run below it.

    Raises:
        InputError: there is no run, there are several, or it is not a finished training.
    """
    run = _run(path)
    if run.path.name in ("", ".."):  # `.` has no name, and output files are named after the run
        run = Run(run.path.resolve())
    content = run.content()
    match content.state:
        case "finished" if content.verb == "train":
            return run
        case "finished":
            raise InputError(f"{run.path}: is a measurement, which has no weights; allowed: a trained run")
        case "damaged":
            raise InputError(
                f"{content.damage[0]}; allowed: a finished run (rerun the command that trained it to restore "
                "what is damaged)"
            )
        case "diverged":
            raise InputError(
                f"{run.path}: has diverged: its loss is not finite, there is no model to use; "
                "allowed: a finished run"
            )
        case "running":
            raise InputError(f"{run.path}: is still being trained; allowed: a finished run")
        case _ if content.status.get("state") == "finished":
            raise InputError(
                f"{run.path}: summary.json is missing; allowed: a finished run (rerun the command that "
                "trained it to restore the file)"
            )
        case state:
            raise InputError(
                f"{run.path}: is {state}; allowed: a finished run (rerun the command that started it to "
                "resume it)"
            )


def _run(path: Path) -> Run:
    if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises if the name is too long
        home = path.absolute().parent.parent
        if path.name != "best.ckpt" or not (home / "status.json").is_file():
            raise InputError(
                f"{path}: is a file; allowed: the folder of a run, or its checkpoints/best.ckpt (the weights "
                "that were tested)"
            )
        return Run(home)
    try:
        runs = find(path)
    except InputError as error:
        raise InputError(f"{error}; allowed: the folder of a run") from None
    if not runs:
        raise InputError(f"{path}: no run here (a folder with a status.json)")
    if len(runs) > 1:
        names = ", ".join(str(run.path.relative_to(path)) for run in runs[:NAMED])
        more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
        raise InputError(f"{path}: holds {len(runs)} runs; allowed: one of {names}{more}")
    return runs[0]


def own_files(run: Run) -> list[Path]:
    """Return the paths of the files that a run consists of."""
    names = (STATUS, *SEALED, *probes.names(run.path), "train.log")
    return [*(run.path / name for name in names), *run.checkpoints.glob("*")]
