"""`cnnbench sync [PATH …] [KEY=VALUE …]`: upload to W&B what was logged offline."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from cnnbench import console
from cnnbench.commands.parser import Parser
from cnnbench.errors import InputError, Interrupted
from cnnbench.processes.signals import interruptible
from cnnbench.run_store import lease
from cnnbench.run_store.find import outputs, split_words
from cnnbench.run_store.reading import LONGEST_URL, Unfit, decoded, read
from cnnbench.run_store.select import parse_condition
from cnnbench.tracking import wandb_run
from cnnbench.tracking.wandb_run import near
from cnnbench.wandb_sync.cli_process import RETRIES
from cnnbench.wandb_sync.search import SearchResult, search
from cnnbench.wandb_sync.upload import Upload, WandbLog

LOCK = ".sync"
"""File in an experiment's folder that is locked while its logs are being uploaded."""

NAMED = 10
"""Runs with nothing to upload that are listed one by one."""


def main(arguments: list[str]) -> int:
    """Run `cnnbench sync`; return 1 if an upload failed."""
    parser = Parser(
        "cnnbench sync",
        usage="cnnbench sync [PATH …] [KEY=VALUE …] [--force] [--project P] [--entity E]",
        description="Upload to W&B what was logged offline: runs, and what `cnnbench compare` and "
        "`cnnbench explain` logged with --wandb. Data that W&B already has is not uploaded again; runs "
        "that are being trained are skipped.",
        epilog="example: cnnbench sync outputs/ablation_norm",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PATH or KEY=VALUE",
        help=f"run folders or folders above them (default: {outputs()}), and filters as in `cnnbench runs`",
    )
    parser.add_argument("--force", action="store_true", help="also upload what was uploaded before")
    parser.add_argument("--project", metavar="P", help="instead of the project that it was logged for")
    parser.add_argument("--entity", metavar="E", help="instead of the user or team that it was logged for")
    options = parser.parse_intermixed_args(arguments)
    paths, conditions = split_words(options.words)
    filters = [parse_condition(word) for word in conditions]
    wandb_run.check_place(options.project, options.entity)
    result = search(paths, filters)
    _report_skipped(result)
    if not result.logs and not result.training and not result.missing:
        words = " ".join([*map(str, paths), *conditions])
        raise InputError(f"{words}: no runs that were logged with W&B; train with logger=wandb")
    with ExitStack() as stack:
        free, locked = _lock(stack, result.logs)
        return _upload(result, free, locked, options)


def _upload(
    result: SearchResult, free: Sequence[WandbLog], locked: Sequence[WandbLog], options: argparse.Namespace
) -> int:
    """Upload logs and report the outcome; return the exit code."""
    pending = [log for log in free if options.force or not log.uploaded]
    counts = {
        "uploaded": 0,
        "already uploaded": len(free) - len(pending),
        "failed": 0,
        "being trained": len(result.training),
        "being uploaded": len(locked),
        "with nothing to upload": len(result.missing),
        "not logged with W&B": len(result.not_logged),
    }
    if not pending:
        console.out.print(_summary(counts), highlight=False)
        return 0
    for name, times in RETRIES.items():  # also for W&B's client in this process
        os.environ.setdefault(name, times)
    wandb_run.check_url()
    if reason := wandb_run.unreachable():
        raise InputError(f"cnnbench sync: {reason}")
    wandb_run.check_key("cnnbench sync", verify=True)
    code = 0
    with _progress_bar(len(pending)) as progress:
        upload = Upload(options.project, options.entity, progress)
        try:
            with interruptible():
                upload.send(pending)
        except Interrupted as error:
            code = 128 + error.signum
    for log, reason in upload.failed.items():
        _print(f"failed: {near(log.home)}: {reason}", "red")
    for log, message in upload.incomplete.items():
        if log in upload.done:
            _print(f"uploaded incompletely: {near(log.home)}: {message}")
    counts |= {"uploaded": len(upload.done), "failed": len(upload.failed)}
    counts["not attempted"] = len(pending) - len(upload.done) - len(upload.failed)
    console.out.print(_summary(counts), highlight=False)
    for page in dict.fromkeys(filter(None, map(_project_page, upload.done))):
        console.out.print(page, highlight=False, soft_wrap=True)
    if code:
        _print("interrupted; run the same command again to resume")
    return code or int(bool(upload.failed))


def _lock(stack: ExitStack, logs: Sequence[WandbLog]) -> tuple[list[WandbLog], list[WandbLog]]:
    """Lock logs until the stack is closed; return those that are free and those that others upload.

    Without the lock, two simultaneous uploads of a run would both find that the server has none of its rows.
    """
    free: list[WandbLog] = []
    locked: list[WandbLog] = []
    logs_of: dict[Path, list[WandbLog]] = {}
    for log in logs:
        home = log.home.resolve()  # a link to a run may be in another folder than the run
        logs_of.setdefault(home.parent if (home / "status.json").exists() else home, []).append(log)
    heartbeat_s = lease.LEASE_S / 6
    for folder, group in sorted(logs_of.items()):
        lock = SoftFileLease(
            folder / LOCK, lease_duration=lease.LEASE_S, heartbeat_interval=heartbeat_s, timeout=0
        )
        try:
            stack.enter_context(lock)
        except (Timeout, LeaseSettingsMismatch):
            _print(f"skipped: another `cnnbench sync` is uploading {near(folder)}")
            locked += group
        except OSError:  # a read-only folder: nobody can lock it, and each of its runs will report it
            free += group
        else:
            free += group
    return free, locked


def _report_skipped(result: SearchResult) -> None:
    """Print what is not uploaded, and why."""
    for text in result.unreadable:
        _print(text)
    for run in result.training:
        _print(f"skipped: {run.path} is still being trained")
    for path, reason in list(result.missing.items())[:NAMED]:
        _print(f"nothing to upload: {path}: {reason}")
    if len(result.missing) > NAMED:
        _print(f"nothing to upload: {len(result.missing) - NAMED} more runs")


def _summary(counts: Mapping[str, int]) -> str:
    """Return `12 uploaded, 3 already uploaded, 1 failed`."""
    return ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n or outcome == "uploaded")


def _project_page(log: WandbLog) -> str:
    """Return the page of the project that a run was uploaded to; empty if it is not known."""
    try:
        url = decoded(read(log.home / "wandb" / "url.txt", LONGEST_URL))
        return url.strip().rpartition("/runs/")[0]
    except (FileNotFoundError, Unfit):
        return ""


def _print(text: str, style: str = "yellow") -> None:
    console.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _progress_bar(total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that moves a progress bar, shown in a terminal only and removed at the end."""
    from rich.progress import Progress

    with Progress(
        console=console.console, transient=True, disable=not console.console.is_terminal
    ) as progress:
        task = progress.add_task("uploading", total=total)
        yield lambda done: progress.update(task, completed=done)
