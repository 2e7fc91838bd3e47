"""`cnnbench sync [PATH …]`: uploads to W&B what was logged offline."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cnnbench import ui, wandb_run
from cnnbench.errors import InputError
from cnnbench.runs import Run, find
from cnnbench.show import judged
from cnnbench.upload import Logged, Upload, logged


def main(arguments: list[str]) -> int:
    """Upload what was logged offline below some folders; 1 if some of it could not be."""
    default = os.environ.get("CNNBENCH_OUTPUTS", "outputs")
    parser = argparse.ArgumentParser(
        "cnnbench sync",
        usage="cnnbench sync [PATH …] [--force] [--project P] [--entity E]",
        description="Upload to W&B what was logged offline: runs, and what `cnnbench compare --wandb` "
        "logged. What is there already is not sent again; a run that is being trained is left alone.",
        epilog="example: cnnbench sync outputs/ablation_norm",
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help=f"folders of runs, or runs (default: {default})"
    )
    parser.add_argument("--force", action="store_true", help="also what was sent before")
    parser.add_argument("--project", metavar="P", help="instead of the project that it was logged for")
    parser.add_argument("--entity", metavar="E", help="instead of the user or team that it was logged for")
    asked = parser.parse_args(arguments)
    paths: list[Path] = asked.paths or [Path(default)]
    runs = list({run.path.resolve(): run for path in paths for run in find(path)}.values())
    busy = [run for run, state in judged(runs).items() if state == "running"]
    found = [one for run in runs if run not in busy for one in logged(run.path)]
    found += [one for home in experiments(paths, runs) for one in logged(home, wandb_run.COMPARE)]
    if not found and not busy:
        raise InputError(
            f"{', '.join(map(str, paths))}: nothing here was logged with W&B; logger=wandb does so"
        )
    for run in busy:
        _say(f"left alone: {run.path} is being trained")
    wanted = found if asked.force else [one for one in found if not one.sent]
    if not wanted:
        ui.out.print(_summary(0, len(found), 0, len(busy)), highlight=False)
        return 0
    if reason := wandb_run.unreachable():
        raise InputError(f"cnnbench sync: {reason}")
    wandb_run.check_key("cnnbench sync", verify=True)
    with _bar(len(wanted)) as beat:
        upload = Upload(asked.project, asked.entity, beat)
        upload.send(wanted)
    for one, why in upload.failed.items():
        _say(f"failed: {one.home}: {why}", "red")
    text = _summary(len(upload.done), len(found) - len(wanted), len(upload.failed), len(busy))
    ui.out.print(text, highlight=False)
    for project in dict.fromkeys(filter(None, map(_project, upload.done))):
        ui.out.print(project, highlight=False, soft_wrap=True)
    return 1 if upload.failed else 0


def experiments(paths: Sequence[Path], runs: Sequence[Run]) -> list[Path]:
    """The folders of experiments that were asked for: at or below a path, with runs in them."""
    roots = [path.resolve() for path in paths]
    homes = dict.fromkeys(run.path.resolve().parent for run in runs)
    return [home for home in homes if any(home.is_relative_to(root) for root in roots)]


def _summary(sent: int, before: int, failed: int, busy: int) -> str:
    """`12 uploaded, 3 were there already, 1 failed`."""
    counts = {"uploaded": sent, "there already": before, "failed": failed, "being trained": busy}
    return ", ".join(f"{n} {what}" for what, n in counts.items() if n or what == "uploaded")


def _project(one: Logged) -> str:
    """The page of the project that a run was sent to."""
    try:
        return (one.home / "wandb" / "url.txt").read_text(encoding="utf-8").strip().rpartition("/runs/")[0]
    except (OSError, ValueError):
        return ""


def _say(text: str, style: str = "yellow") -> None:
    ui.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A bar in a terminal that goes away at the end."""
    from rich.progress import Progress

    with Progress(console=ui.console, transient=True, disable=not ui.console.is_terminal) as progress:
        task = progress.add_task("uploading", total=total)
        yield lambda done: progress.update(task, completed=done)
