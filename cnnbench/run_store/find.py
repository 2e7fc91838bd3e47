"""Search for runs below folders, and filters of settings."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from cnnbench.errors import InputError, NotThere
from cnnbench.run_store.run import Run

WANDB = re.compile(r"(offline-)?run-\d{8}_\d{6}-.+")
"""Names of folders of W&B: a `status.json` that somebody logged there is not a run's."""

NAME = re.compile(r"-[0-9a-f]{10}$")
"""End of the name of a run's folder."""


def outputs() -> str:
    """Return the default folder of runs: CNNBENCH_OUTPUTS, or `outputs`."""
    return os.environ.get("CNNBENCH_OUTPUTS", "outputs")


def split_words(words: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Sort the words of a command line into folders and conditions (`KEY=VALUE`).

    A word with a `=` is a condition unless a file or folder has that name. Without a folder, all outputs
    are searched.
    """
    paths: list[str] = []
    conditions: list[str] = []
    for word in words:
        # Path.exists would raise for a word that is too long for a file name, such as a list of 100 seeds.
        is_condition = "=" in word and not os.path.exists(word)  # noqa: PTH110
        (conditions if is_condition else paths).append(word)
    return [Path(word) for word in paths or [outputs()]], conditions


Say = Callable[[str], None]


def below(paths: Iterable[Path], say: Say = lambda _: None) -> list[Run]:
    """Return the runs at or below folders, each once: under its own name rather than that of a link.

    Args:
        paths: the folders.
        say: called with a message for each folder that cannot be read.

    Raises:
        InputError: see `find`.
    """
    links_last = sorted(
        (run for path in paths for run in find(path, say)), key=lambda run: run.path.is_symlink()
    )
    by_folder: dict[Path, Run] = {}
    for run in links_last:
        by_folder.setdefault(run.path.resolve(), run)
    return list(by_folder.values())


def find(path: Path, say: Say = lambda _: None) -> list[Run]:
    """Return the run at `path`, or all runs below it, sorted by path.

    Links to runs are followed, links to other folders are not.

    Args:
        path: a folder.
        say: called with a message for each folder below it that cannot be read.

    Raises:
        NotThere: there is no such folder.
        InputError: it cannot be read.
    """
    check_folder(path)
    if (path / "status.json").exists():
        return [Run(path)]

    def unread(error: OSError) -> None:
        say(f"{error.filename}: cannot be read ({error.strerror})")

    runs = []
    for parent, folders, names in os.walk(path, onerror=unread):
        if "status.json" in names or "status.json" in folders:  # the latter is damage, to be shown
            runs.append(Run(Path(parent)))
            folders.clear()  # results that force=true replaced are not runs of their own
        folders[:] = [name for name in folders if not _holds_no_runs(name, Path(parent))]
        for link in filter(Path.is_symlink, (Path(parent, name) for name in folders)):
            try:
                if (link / "status.json").exists():
                    runs.append(Run(link))
            except OSError as error:
                unread(error)
    return sorted(runs, key=lambda run: run.path)


def without_status(path: Path) -> list[Path]:
    """Return the folders at or below `path` that were runs, and have lost their status.json."""
    lost = []
    for parent, folders, names in os.walk(path):
        if "identity.json" in names and "status.json" not in (*names, *folders):
            lost.append(Path(parent))
        folders[:] = [name for name in folders if not _holds_no_runs(name, Path(parent))]
    return sorted(lost)


def _holds_no_runs(name: str, parent: Path) -> bool:
    """Return whether a folder is of W&B, hidden, or has the earlier results of a run that is being moved."""
    return (
        name.startswith(".")
        or WANDB.fullmatch(name) is not None
        or (name == "repeats" and NAME.search(parent.name) is not None)
    )


def of_format_1(folder: Path, labels: Collection[str]) -> list[Run]:
    """Return the runs of format 1 in an experiment's folder whose names are one of `labels` and a hash."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.rpartition("-")[0] in labels)
    except OSError:
        return []
    return [Run(path) for path in paths if not (path / "identity.json").exists() and Run(path).format == 1]


def check_folder(path: Path) -> None:
    """Check that a folder that a user named can be read.

    Raises:
        NotThere: there is no such folder.
        InputError: it cannot be read.
    """
    try:
        os.scandir(path).close()
        if not os.access(path, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (FileNotFoundError, NotADirectoryError):
        raise NotThere(f"{path}: no such folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten settings to the form of the command line: `{"a": {"b": None}}` becomes `{"a.b": "null"}`."""
    settings: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            settings |= flat(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, bool):
            settings[f"{prefix}{key}"] = "null" if value is None else str(value).lower()
        else:
            settings[f"{prefix}{key}"] = str(value)
    return settings


def matches(value: str | None, wanted: str) -> bool:
    """Return whether a setting has one of several values, separated by commas.

    Numbers are compared as numbers (`0.1` is `1e-1`); a list such as `[1,8]` is a single value.
    """
    choices = re.split(r",(?![^\[]*\])", wanted)
    return value is not None and any(_same(value, choice) for choice in choices)


def _same(value: str, wanted: str) -> bool:
    try:
        return float(value) == float(wanted)
    except ValueError:
        if value.startswith("["):
            return value.replace(" ", "") == wanted.replace(" ", "")
        return value == (wanted.lower() if wanted in ("True", "False", "Null") else wanted)
