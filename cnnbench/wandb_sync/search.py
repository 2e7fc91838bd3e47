"""Resolution of the paths and filters of `cnnbench sync`: what can be uploaded, and what cannot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cnnbench.run_store.fence import link_in
from cnnbench.run_store.find import WANDB, below, check_folder
from cnnbench.run_store.run import Run
from cnnbench.run_store.select import Condition, select_runs, states_of
from cnnbench.tracking import wandb_run
from cnnbench.wandb_sync.upload import WandbLog, wandb_logs


@dataclass
class SearchResult:
    """The runs below some paths, by what can be done with their logs.

    Attributes:
        logs: to upload.
        training: runs that are still being trained.
        missing: runs that were logged but have no log any more, with the reason.
        not_logged: runs that were not logged with W&B.
        unreadable: a message for each folder that cannot be read.
    """

    logs: list[WandbLog] = field(default_factory=list)
    training: list[Run] = field(default_factory=list)
    missing: dict[Path, str] = field(default_factory=dict)
    not_logged: list[Run] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def search(paths: Sequence[Path], filters: Sequence[Condition]) -> SearchResult:
    """Find the W&B logs of the runs below some paths, and of what was shown of their experiments.

    Args:
        paths: run folders, folders above them, or `wandb` folders: an experiment's holds its reports.
        filters: settings that a run must have; reports are left out if there are any.

    Raises:
        InputError: no such folder, or a filter on a setting that none of the runs has.
    """
    result = SearchResult()
    resolved = [_resolve(path) for path in paths]
    homes = [folder for folder, in_wandb in resolved if in_wandb and not (folder / "status.json").is_file()]
    paths = [folder for folder, _ in resolved if folder not in homes]
    runs = below(paths, result.unreadable.append)
    states = states_of(runs)
    selected, _ = select_runs(runs, states, filters)
    for run in selected:
        if states[run] == "running":
            result.training.append(run)
        elif problem := link_in(run.path):  # markers of what was uploaded would be written to where it leads
            result.missing[run.path] = problem
        elif logs := wandb_logs(run.path):
            result.logs += logs
        elif run.config().get("logger", {}).get("name") == "wandb":
            result.missing[run.path] = "its W&B log is missing"
        else:
            result.not_logged.append(run)
    if not filters:
        result.missing |= dict.fromkeys(_without_status(paths), "has a W&B log but no status.json")
        homes += _experiments(paths, runs)
    prefixes = (wandb_run.COMPARE, wandb_run.EXPLAIN)
    result.logs += [log for home in dict.fromkeys(homes) for log in wandb_logs(home, prefixes)]
    return result


def _experiments(paths: Sequence[Path], runs: Sequence[Run]) -> list[Path]:
    """Return the folders of experiments at or below the paths that contain any of the runs."""
    roots = [path.resolve() for path in paths]
    homes = dict.fromkeys(run.path.parent for run in runs)
    return [home for home in homes if any(home.resolve().is_relative_to(root) for root in roots)]


def _resolve(path: Path) -> tuple[Path, bool]:
    """Return the folder that a path stands for, and whether the path was its `wandb` folder or inside it."""
    check_folder(path)
    if WANDB.fullmatch(path.name) and path.absolute().parent.name == "wandb":
        path = path.absolute().parent
    if path.name == "wandb" and not (path / "status.json").exists() and any(path.glob("*run-*-*")):
        return path.parent, True
    return path, False


def _without_status(paths: Sequence[Path]) -> list[Path]:
    """Return folders with a config and a W&B log that are not runs because status.json is missing."""
    incomplete = []
    for path in paths:
        for parent, folders, files in os.walk(path):
            if "status.json" in files:
                folders.clear()
            elif "config.yaml" in files and "wandb" in folders and wandb_logs(Path(parent)):
                incomplete.append(Path(parent))
                folders.clear()
            folders[:] = [name for name in folders if name[0] != "." and name not in ("wandb", "repeats")]
    return sorted(dict.fromkeys(incomplete))
