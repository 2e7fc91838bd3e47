"""The finished run that a user names."""

from __future__ import annotations

import os
from pathlib import Path

from cnnbench.errors import InputError
from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

NAMED = 6
"""An error names so many of the runs that it is about."""


def finished(path: Path) -> Run:
    """The finished run at a path: its folder, its `best.ckpt`, or a folder with this run alone below it.

    Raises:
        InputError: there is none, there are several, or it has not been trained to its end.
    """
    run = _run(path)
    if run.path.name in ("", ".."):  # as `.` has no name, which becomes that of files
        run = Run(run.path.resolve())
    match run.state:
        case "finished" if run.verb == "train":
            return run
        case "finished":
            raise InputError(f"{run.path}: is a measurement, which has no weights; allowed: a trained run")
        case "damaged":
            raise InputError(f"{run.path}: status.json is damaged; allowed: a finished run")
        case "diverged":
            raise InputError(
                f"{run.path}: has diverged: its loss is not finite, there is no model to use; "
                "allowed: a finished run"
            )
        case "running":
            raise InputError(f"{run.path}: is still being trained; allowed: a finished run")
        case _ if run.status().get("state") == "finished":
            raise InputError(
                f"{run.path}: summary.json, its figures, is missing or damaged; allowed: a finished run (the "
                "command that trained it makes them again)"
            )
        case state:
            raise InputError(
                f"{run.path}: is {state}; allowed: a finished run (the command that started it goes on)"
            )


def _run(path: Path) -> Run:
    if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for what is too long for a name
        home = path.absolute().parent.parent
        if path.name != "best.ckpt" or not (home / "status.json").is_file():
            raise InputError(
                f"{path}: is a file; allowed: the folder of a run, or its checkpoints/best.ckpt (the weights "
                "that its test was made with)"
            )
        return Run(home)
    try:
        found = find(path)
    except InputError as error:
        raise InputError(f"{error}; allowed: the folder of a run") from None
    if not found:
        raise InputError(f"{path}: no run here (a folder with a status.json)")
    if len(found) > 1:
        names = ", ".join(str(run.path.relative_to(path)) for run in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise InputError(f"{path}: holds {len(found)} runs; allowed: one of {names}{more}")
    return found[0]


def own_files(run: Run) -> list[Path]:
    """The files that a run consists of."""
    names = ("config.yaml", "status.json", "summary.json", "metrics.csv", "train.log")
    return [*(run.path / name for name in names), *run.checkpoints.glob("*")]
