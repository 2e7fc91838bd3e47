"""What is meant by the paths and conditions of `cnnbench sync`: what can be sent, and what is not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnbench.run_store.find import WANDB, below, check_folder
from cnnbench.run_store.run import Run
from cnnbench.run_store.select import Condition, judged, select_runs
from cnnbench.tracking import wandb_run
from cnnbench.wandb_sync.upload import Logged, logged


@dataclass
class Found:
    """What lies below some paths.

    Attributes:
        logged: what can be sent.
        busy: runs that are being trained.
        lost: runs that were logged, and whose log is not there any more; with the reason.
        elsewhere: runs that were not logged with W&B.
        unread: a sentence for each folder that cannot be read.
    """

    logged: list[Logged] = field(default_factory=list)
    busy: list[Run] = field(default_factory=list)
    lost: dict[Path, str] = field(default_factory=dict)
    elsewhere: list[Run] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def search(paths: Sequence[Path], conditions: Sequence[Condition]) -> Found:
    """What lies below the paths; with conditions, of the runs that meet them alone.

    A `wandb` folder stands for what was logged in it: that of an experiment for its comparisons.

    Raises:
        InputError: no such folder, or a condition on what none of the runs has.
    """
    found = Found()
    places = [_place(path) for path in paths]
    own = [place for place, within in places if within and not (place / "status.json").is_file()]
    paths = [place for place, _ in places if place not in own]
    runs = below(paths, found.unread.append)
    states = judged(runs)
    selected, _ = select_runs(runs, states, conditions)
    for run in selected:
        if states[run] == "running":
            found.busy.append(run)
        elif ours := logged(run.path):
            found.logged += ours
        elif run.config().get("logger", {}).get("name") == "wandb":
            found.lost[run.path] = "its W&B log is gone"
        else:
            found.elsewhere.append(run)
    if not conditions:
        found.lost |= dict.fromkeys(_unknown(paths), "has a W&B log but no status.json")
        own += experiments(paths, runs)
    found.logged += [one for home in dict.fromkeys(own) for one in logged(home, wandb_run.COMPARE)]
    return found


def experiments(paths: Sequence[Path], runs: Sequence[Run]) -> list[Path]:
    """The folders of experiments that were asked for: at or below a path, with runs in them."""
    roots = [path.resolve() for path in paths]
    homes = dict.fromkeys(run.path.parent for run in runs)
    return [home for home in homes if any(home.resolve().is_relative_to(root) for root in roots)]


def _place(path: Path) -> tuple[Path, bool]:
    """The folder that a path is about, and whether the path is its `wandb` folder, or within that."""
    check_folder(path)
    if WANDB.fullmatch(path.name) and path.absolute().parent.name == "wandb":
        path = path.absolute().parent
    if path.name == "wandb" and not (path / "status.json").exists() and any(path.glob("*run-*-*")):
        return path.parent, True
    return path, False


def _unknown(paths: Sequence[Path]) -> list[Path]:
    """Folders that look like a run's, and are none for want of a status."""
    unknown = []
    for path in paths:
        for where, folders, names in os.walk(path):
            if "status.json" in names:
                folders.clear()
            elif "config.yaml" in names and "wandb" in folders and logged(Path(where)):
                unknown.append(Path(where))
                folders.clear()
            folders[:] = [name for name in folders if name[0] != "." and name not in ("wandb", "repeats")]
    return sorted(dict.fromkeys(unknown))
