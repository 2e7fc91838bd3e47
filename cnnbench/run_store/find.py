"""Runs below folders."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from cnnbench.errors import InputError, NotThere
from cnnbench.run_store.run import Run

WANDB = re.compile(r"(offline-)?run-\d{8}_\d{6}-.+")
"""Folders of W&B's, which hold whatever somebody has logged: a `status.json` there is no run's."""


def outputs() -> str:
    """Where runs are written and looked for unless a folder is named."""
    return os.environ.get("CNNBENCH_OUTPUTS", "outputs")


def sorted_words(words: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The folders and the conditions among the words of a command line; all outputs without a folder.

    What holds a `=` is a condition, unless there is something of that name.
    """
    paths: list[str] = []
    conditions: list[str] = []
    for word in words:
        # Path.exists raises for what is too long for a name, as the condition of a hundred seeds is.
        condition = "=" in word and not os.path.exists(word)  # noqa: PTH110 - Path.exists raises for long words
        (conditions if condition else paths).append(word)
    return [Path(word) for word in paths or [outputs()]], conditions


Say = Callable[[str], None]


def below(paths: Iterable[Path], say: Say = lambda _: None) -> list[Run]:
    """The runs at or below some folders, each once: by its own name, if a link leads to it as well.

    Args:
        paths: the folders.
        say: is told of each folder that cannot be read.

    Raises:
        InputError: see `find`.
    """
    found = sorted((run for path in paths for run in find(path, say)), key=lambda run: run.path.is_symlink())
    once: dict[Path, Run] = {}
    for run in found:
        once.setdefault(run.path.resolve(), run)
    return list(once.values())


def find(path: Path, say: Say = lambda _: None) -> list[Run]:
    """The run at `path`, or all runs below it, by path; links to runs are followed, to other folders not.

    Raises:
        NotThere: there is no such folder.
        InputError: it may not be read.
    """
    check_folder(path)
    if (path / "status.json").is_file():
        return [Run(path)]

    def unread(error: OSError) -> None:
        say(f"{error.filename}: cannot be read ({error.strerror})")

    found = []
    for where, folders, names in os.walk(path, onerror=unread):
        if "status.json" in names:
            found.append(Run(Path(where)))
            folders.clear()  # what a run was before force=true is not a run of its own
        folders[:] = [name for name in folders if not name.startswith(".") and not WANDB.fullmatch(name)]
        for link in filter(Path.is_symlink, (Path(where, name) for name in folders)):
            try:
                if (link / "status.json").is_file():
                    found.append(Run(link))
            except OSError as error:
                unread(error)
    return sorted(found, key=lambda run: run.path)


def of_format_1(folder: Path, prefix: str) -> list[Run]:
    """Return an experiment's runs of format 1 whose names are `prefix` and a hash."""
    try:
        paths = sorted(folder.glob(f"{escape(prefix)}-{'[0-9a-f]' * 10}"))
    except OSError:
        return []
    return [run for run in map(Run, paths) if run.format == 1]


def check_folder(path: Path) -> None:
    """Whether a folder that a user named can be read.

    Raises:
        NotThere: there is none.
        InputError: it may not be read.
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
    """{"a": {"b": None}} as {"a.b": "null"}: settings as one writes them on the command line."""
    found: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif value is None or isinstance(value, bool):
            found[f"{prefix}{key}"] = "null" if value is None else str(value).lower()
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def matches(value: str | None, wanted: str) -> bool:
    """Whether a setting is one of several values, separated by commas; `0.1` is `1e-1`, `[1,8]` is one."""
    values = re.split(r",(?![^\[]*\])", wanted)
    return value is not None and any(_same(value, one) for one in values)


def _same(value: str, wanted: str) -> bool:
    try:
        return float(value) == float(wanted)
    except ValueError:
        if value.startswith("["):
            return value.replace(" ", "") == wanted.replace(" ", "")
        return value == (wanted.lower() if wanted in ("True", "False", "Null") else wanted)
