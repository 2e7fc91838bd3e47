"""Reuse of runs: wait for one that another process trains, and notes on one that is finished."""

from __future__ import annotations

import time

from cnnbench import __version__
from cnnbench.console import console
from cnnbench.run_store import lease
from cnnbench.run_store.find import of_format_1
from cnnbench.run_store.run import DONE, Run
from cnnbench.settings.bench import Bench
from cnnbench.settings.identity import other_code
from cnnbench.settings.run import Settings


def wait_for(run: Run) -> str:
    """Wait until no other process trains a run, and return its state.

    Raises:
        InputError: the run is not done, and its folder cannot be written.
    """
    if lease.is_free(run.path):  # not by its state: one that has just begun has none yet
        if (state := run.state) not in DONE:
            lease.check_writable(run.path)
        return state
    held = lease.of(run.path)
    who = "{host}, process {pid}".format(**{"host": "?", "pid": "?"} | run.status())
    message = f"{run.path.name} is already being trained ({who}); waiting for it"
    with console.status(message):
        if not console.is_terminal:
            console.print(message)
        while not lease.frees(held):
            time.sleep(0.5)
    return wait_for(run)


def announce(settings: Settings, run: Run, *, brief: bool) -> None:
    """Print that a stored result is shown, and how a new one would differ from it.

    Args:
        settings: of the current command.
        run: the finished run.
        brief: print warnings only.
    """
    made_by = run.status().get("versions", {}).get("cnnbench")
    if made_by != __version__:
        _warn(f"trained by cnnbench {made_by}; this is {__version__}")
    elif changed := other_code(settings, run):
        _warn(f"made by other code of cnnbench ({', '.join(changed)} changed since); force=true repeats it")
    if brief:
        return
    hint = f"force=true {'measures' if isinstance(settings, Bench) else 'trains'} it again"
    console.print(f"already {run.state}: showing the stored result ({hint})", style="dim")
    if difference := settings.made_otherwise(run):
        _warn(f"it was measured {difference}")


def mention_earlier(settings: Settings, run: Run) -> None:
    """Print what is damaged, and therefore made again, and that runs of format 1 are not reused."""
    for problem in run.damage:
        _warn(f"damaged: {problem}")
    if run.state == "new" and (earlier := of_format_1(run.path.parent, [settings.label])):
        many = len(earlier) > 1
        _warn(
            f"{len(earlier)} run{'s' * many} of format 1 (of an earlier cnnbench) in {run.path.parent} "
            f"{'are' if many else 'is'} still readable, but not reused for training"
        )


def _warn(text: str) -> None:
    console.print(text, style="yellow", highlight=False, soft_wrap=True)
