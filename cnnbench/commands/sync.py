"""`cnnbench sync [PATH …] [KEY=VALUE …]`: uploads to W&B what was logged offline."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from cnnbench import console
from cnnbench.errors import InputError, Interrupted
from cnnbench.processes.signals import interruptible
from cnnbench.run_store import lease
from cnnbench.run_store.find import outputs, sorted_words
from cnnbench.run_store.select import parse_condition
from cnnbench.tracking import wandb_run
from cnnbench.tracking.wandb_run import near
from cnnbench.wandb_sync.cli_process import RETRIES
from cnnbench.wandb_sync.search import Found, search
from cnnbench.wandb_sync.upload import Logged, Upload

LOCK = ".sync"
"""In the folder of an experiment, while what lies in it is being uploaded."""

NAMED = 10
"""Runs that are named one by one where nothing is to be done about them."""


def main(arguments: list[str]) -> int:
    """Upload what was logged offline below some folders; 1 if some of it could not be."""
    parser = argparse.ArgumentParser(
        "cnnbench sync",
        usage="cnnbench sync [PATH …] [KEY=VALUE …] [--force] [--project P] [--entity E]",
        description="Upload to W&B what was logged offline: runs, and what `cnnbench compare --wandb` "
        "logged. What is there already is not sent again; a run that is being trained is left alone.",
        epilog="example: cnnbench sync outputs/ablation_norm",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PATH or KEY=VALUE",
        help=f"folders of runs, or runs (default: {outputs()}); and conditions, as in `cnnbench runs`",
    )
    parser.add_argument("--force", action="store_true", help="also what was sent before")
    parser.add_argument("--project", metavar="P", help="instead of the project that it was logged for")
    parser.add_argument("--entity", metavar="E", help="instead of the user or team that it was logged for")
    asked = parser.parse_intermixed_args(arguments)
    paths, words = sorted_words(asked.words)
    conditions = [parse_condition(word) for word in words]
    wandb_run.check_place(asked.project, asked.entity)
    found = search(paths, conditions)
    _tell(found)
    if not found.logged and not found.busy and not found.lost:
        what = " ".join([*map(str, paths), *words])
        raise InputError(f"{what}: nothing here was logged with W&B; logger=wandb does so")
    with ExitStack() as stack:
        free, held = _alone(stack, found.logged)
        return _upload(found, free, held, asked)


def _upload(found: Found, ours: Sequence[Logged], held: Sequence[Logged], asked: argparse.Namespace) -> int:
    wanted = [one for one in ours if asked.force or not one.sent]
    counts = {
        "uploaded": 0,
        "there already": len(ours) - len(wanted),
        "failed": 0,
        "being trained": len(found.busy),
        "being uploaded": len(held),
        "with nothing to send": len(found.lost),
        "not logged with W&B": len(found.elsewhere),
    }
    if not wanted:
        console.out.print(_summary(counts), highlight=False)
        return 0
    for name, times in RETRIES.items():  # also for what W&B's client asks in this process
        os.environ.setdefault(name, times)
    wandb_run.check_url()
    if reason := wandb_run.unreachable():
        raise InputError(f"cnnbench sync: {reason}")
    wandb_run.check_key("cnnbench sync", verify=True)
    code = 0
    with _bar(len(wanted)) as beat:
        upload = Upload(asked.project, asked.entity, beat)
        try:
            with interruptible():
                upload.send(wanted)
        except Interrupted as error:
            code = 128 + error.signum
    for one, why in upload.failed.items():
        _say(f"failed: {near(one.home)}: {why}", "red")
    for one, what in upload.lacking.items():
        if one in upload.done:
            _say(f"sent incomplete: {near(one.home)}: {what}")
    counts |= {"uploaded": len(upload.done), "failed": len(upload.failed)}
    counts["not reached"] = len(wanted) - len(upload.done) - len(upload.failed)
    console.out.print(_summary(counts), highlight=False)
    for project in dict.fromkeys(filter(None, map(_project, upload.done))):
        console.out.print(project, highlight=False, soft_wrap=True)
    if code:
        _say("interrupted; the same command goes on where this one was")
    return code or int(bool(upload.failed))


def _alone(stack: ExitStack, found: Sequence[Logged]) -> tuple[list[Logged], list[Logged]]:
    """What nobody else uploads right now, as long as the stack is open; and what somebody does.

    Two who send one run at the same time both find that the server has nothing of it.
    """
    free: list[Logged] = []
    held: list[Logged] = []
    homes: dict[Path, list[Logged]] = {}
    for one in found:
        home = one.home.resolve()  # a link to a run lies in another folder than the run
        homes.setdefault(home.parent if (home / "status.json").exists() else home, []).append(one)
    beat = lease.LEASE_S / 6
    for home, runs in sorted(homes.items()):
        lock = SoftFileLease(home / LOCK, lease_duration=lease.LEASE_S, heartbeat_interval=beat, timeout=0)
        try:
            stack.enter_context(lock)
        except (Timeout, LeaseSettingsMismatch):
            _say(f"left alone: another `cnnbench sync` uploads {near(home)}")
            held += runs
        except OSError:  # it may only be read: nobody can hold it, and its runs say for themselves
            free += runs
        else:
            free += runs
    return free, held


def _tell(found: Found) -> None:
    """Name what is not sent."""
    for text in found.unread:
        _say(text)
    for run in found.busy:
        _say(f"left alone: {run.path} is being trained")
    for path, why in list(found.lost.items())[:NAMED]:
        _say(f"nothing to send: {path}: {why}")
    if len(found.lost) > NAMED:
        _say(f"nothing to send: {len(found.lost) - NAMED} more runs")


def _summary(counts: dict[str, int]) -> str:
    """`12 uploaded, 3 there already, 1 failed`."""
    return ", ".join(f"{n} {what}" for what, n in counts.items() if n or what == "uploaded")


def _project(one: Logged) -> str:
    """The page of the project that a run was sent to."""
    try:
        return (one.home / "wandb" / "url.txt").read_text(encoding="utf-8").strip().rpartition("/runs/")[0]
    except (OSError, ValueError):
        return ""


def _say(text: str, style: str = "yellow") -> None:
    console.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal that goes away at the end."""
    from rich.progress import Progress

    with Progress(
        console=console.console, transient=True, disable=not console.console.is_terminal
    ) as progress:
        task = progress.add_task("uploading", total=total)
        yield lambda done: progress.update(task, completed=done)
