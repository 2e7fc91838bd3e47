"""Reuse of runs: waiting for one that another process trains, and notes on one that is finished."""

from __future__ import annotations

import time

from cnnbench import __version__
from cnnbench.console import console
from cnnbench.run_store import lease
from cnnbench.run_store.find import of_format_1
from cnnbench.run_store.run import Run
from cnnbench.settings.bench import Bench
from cnnbench.settings.identity import other_code
from cnnbench.settings.run import Settings


def wait_for(run: Run) -> str:
    """Return the state of a run, once no other process trains it."""
    if run.state != "running":
        return run.state
    held = lease.of(run.path)
    who = "{host}, process {pid}".format(**{"host": "?", "pid": "?"} | run.status())
    with console.status(f"{run.path.name} is already being trained ({who}); waiting for it"):
        if not console.is_terminal:
            console.print(f"{run.path.name} is already being trained ({who}); waiting for it")
        while not lease.frees(held):
            time.sleep(0.5)
    return run.state


def announce(settings: Settings, run: Run, *, brief: bool) -> None:
    """Say that a stored result is shown, and in what it differs from one that would be made now."""
    made_by = run.status().get("versions", {}).get("cnnbench")
    if made_by != __version__:
        _warn(f"trained by cnnbench {made_by}; this is {__version__}")
    elif rooms := other_code(settings, run):
        _warn(f"made by other code of cnnbench ({', '.join(rooms)} changed since); force=true makes it again")
    if brief:
        return
    again = f"force=true {'measures' if isinstance(settings, Bench) else 'trains'} it again"
    console.print(f"already {run.state}: shown from disk ({again})", style="dim")
    if difference := settings.made_otherwise(run):
        _warn(f"it was measured {difference}")


def mention_format_1(settings: Settings, run: Run) -> None:
    """Say that runs of the earlier format are there and are not reused."""
    if run.state == "new" and (earlier := of_format_1(run.path.parent, settings.label)):
        many = len(earlier) > 1
        _warn(
            f"{len(earlier)} run{'s' * many} of format 1 (cnnbench 0.1) in {run.path.parent} "
            f"{'are' if many else 'is'} still readable, but not reused for training"
        )


def _warn(text: str) -> None:
    console.print(text, style="yellow", highlight=False, soft_wrap=True)
