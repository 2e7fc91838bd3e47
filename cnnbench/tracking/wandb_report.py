"""What a verb shows of finished runs, as a W&B run of its own: the options, and how it is logged."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from cnnbench import console
from cnnbench.errors import InputError, suggest
from cnnbench.tracking import wandb_end, wandb_run


@dataclass(frozen=True)
class Target:
    """The project, the mode and the timeouts with which it is logged."""

    mode: wandb_run.Mode = "offline"
    project: str = "cnnbench"
    entity: str | None = None
    init_timeout_s: float = wandb_run.INIT_TIMEOUT_S
    finish_timeout_s: float = wandb_run.FINISH_TIMEOUT_S


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add `--wandb`, which logs `what`, and the options that belong to it."""
    parser.add_argument("--wandb", action="store_true", help=f"log {what} as a W&B run")
    parser.add_argument("--mode", metavar="MODE", help="with --wandb: offline (default) or online")
    parser.add_argument("--project", metavar="P", help="with --wandb: the project (default: cnnbench)")
    parser.add_argument("--entity", metavar="E", help="with --wandb: the user or team (default: yours)")


def target(args: argparse.Namespace) -> Target | None:
    """Return the target that the options describe; None without `--wandb`.

    Raises:
        InputError: an unknown mode, options without `--wandb`, or no API key for the online mode.
    """
    given = {key: value for key in ("mode", "project", "entity") if (value := getattr(args, key)) is not None}
    if not args.wandb:
        if given:
            raise InputError(f"--{next(iter(given))}: allowed with --wandb only")
        return None
    modes = get_args(wandb_run.Mode)
    if (mode := given.get("mode", "offline")) not in modes:
        raise InputError(f"--mode {mode}: no such mode; {suggest(mode, modes)}")
    wandb_run.check_place(given.get("project"), given.get("entity"))
    if mode == "online":
        wandb_run.check_key("--mode online")
    return Target(**given)


def log(folder: Path, destination: Target, send: Callable[[Any], None], options: Mapping[str, Any]) -> None:
    """Log to a new W&B run and finish it; offline, if the server cannot be reached until the end.

    Args:
        folder: the experiment's; the parent of `wandb/`.
        destination: where it is logged.
        send: logs to the run.
        options: for `wandb.init`.

    Raises:
        InputError: the folder cannot be written, or W&B rejects the run.
    """
    near = wandb_run.near(folder)
    try:
        (folder / "wandb").mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"--wandb: {near / 'wandb'}: cannot be written ({error.strerror})") from None
    if not os.access(folder / "wandb", os.W_OK):  # W&B would write to /tmp instead
        raise InputError(f"--wandb: {near / 'wandb'}: cannot be written")
    options = {**options, "project": destination.project, "entity": destination.entity}
    complete, url = _send(folder, destination, send, options)
    if not complete:  # the server, or W&B's own process, was gone
        _send(folder, replace(destination, mode="offline"), send, options)
    shown = url if complete and url else f"{near / 'wandb'}; cnnbench sync {near} uploads it"
    console.console.print(f"logged: {shown}", highlight=False, markup=False, soft_wrap=True)


def _send(
    folder: Path, destination: Target, send: Callable[[Any], None], options: Mapping[str, Any]
) -> tuple[bool, str]:
    """Start a W&B run, log to it and finish it; return whether that is complete, and its address.

    Raises:
        InputError: W&B rejects the run.
    """
    import wandb

    timeouts = destination.init_timeout_s, destination.finish_timeout_s
    try:
        run = wandb_run.start(folder, destination.mode, *timeouts, **options)
    except (wandb.Error, ValueError) as error:
        raise InputError(f"--wandb: {' '.join(str(error).split())}") from None
    complete = sound = False
    offline, url = run.offline, "" if run.offline else str(run.url)
    try:
        send(run)
        complete = True
    except Exception:
        if offline:
            raise
    finally:
        sound = wandb_end.finish(run, folder, 0 if complete else 1, complete=complete)
    return complete and sound, url
