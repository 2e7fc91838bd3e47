"""What a user names on the command line of a verb: a finished run, and files to write. Needs no torch."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cnnbench import ui
from cnnbench.errors import InputError, Interrupted
from cnnbench.process import interruptible
from cnnbench.runs import Run, find, where_asked

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


def check_target(option: str, target: str, *, stream: bool = True) -> None:
    """Say before anything is computed that a file cannot be written.

    Args:
        option: what names it, for the error.
        target: its path; with `stream` also `-` for standard output.
        stream: whether that is allowed.

    Raises:
        InputError: it is a folder, or in none, or in one that cannot be written to.
    """
    allowed = "a file, or - for standard output" if stream else "a file"
    if not target or (target == "-" and not stream):
        raise InputError(f"{f'{option} {target}'.strip()}: no name of a file; allowed: {allowed}")
    if target == "-":
        return
    path = Path(target)
    folder = Path(os.path.realpath(target)).parent
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise InputError(f"{option} {target}: cannot be written ({error.strerror})") from None
    if path.is_dir() or not folder.is_dir():
        what = "is a folder" if path.is_dir() else "its folder does not exist"
        raise InputError(f"{option} {target}: {what}; allowed: {allowed}")
    try:
        if path.exists() and not path.is_file():  # a device, or a pipe, which opening would wait for
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            _try_writing(folder)
    except OSError as error:
        raise InputError(f"{option} {target}: cannot be written ({error.strerror})") from None


def check_folder(option: str, target: str) -> None:
    """Say before anything is computed that a folder cannot be made, or not be written to.

    Raises:
        InputError: it is a file, or below one, or in a folder that cannot be written to.
    """
    path = Path(os.path.realpath(target))
    there = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise InputError(f"{option} {target}: {there} is no folder; allowed: a folder, there or not")
    try:
        _try_writing(there)
    except OSError as error:
        raise InputError(f"{option} {target}: cannot be written ({error.strerror})") from None


def _try_writing(folder: Path) -> None:
    """What may be done is only known by doing it: on a network's disk, below /proc, as root."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def check_targets(**targets: str | None) -> None:
    """`check_target` of each option that is given, which must not name the same place.

    Raises:
        InputError: one that cannot be written.
    """
    given = {f"--{name}": target for name, target in targets.items() if target is not None}
    for option, target in given.items():
        check_target(option, target)
        same = [other for other, at in given.items() if _place(at) == _place(target) and other != option]
        if same:
            raise InputError(f"{option} {target}: the same place as {same[0]}; allowed: a file for each")


def check_spared(targets: Iterable[tuple[str, str | None]], files: Iterable[Path]) -> None:
    """Whether what is written would take the place of what is read.

    Raises:
        InputError: it would.
    """
    taken = {_place(str(file)) for file in files}
    for option, target in targets:
        if target is not None and _place(target) in taken:
            raise InputError(f"{option} {target}: would replace a file that is read; allowed: another file")


def own_files(run: Run) -> list[Path]:
    """The files that a run consists of."""
    names = ("config.yaml", "status.json", "summary.json", "metrics.csv", "train.log")
    return [*(run.path / name for name in names), *run.checkpoints.glob("*")]


def _place(target: str) -> str:
    return target if target == "-" else os.path.realpath(target)


def until_interrupted(work: Callable[[], int]) -> int:
    """The exit code of `work`, also when Ctrl-C or SIGTERM ends it; what it was writing is taken away."""
    try:
        with interruptible():
            return work()
    except Interrupted as error:
        ui.console.print("interrupted", style="yellow")
        return 128 + error.signum


@contextmanager
def writing(target: str | None) -> Iterator[BinaryIO | None]:
    """A file that a user named, whole or not at all, `-` for standard output; None for None.

    Raises:
        InputError: it cannot be written.
    """
    if target is None:
        yield None
        return
    if target == "-":
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with where_asked(Path(target)) as file:
            yield file
    except BrokenPipeError:  # of standard output
        raise
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    ui.console.print(f"written: {target}", highlight=False, soft_wrap=True, markup=False)
