"""Files and folders that a user names on the command line to be written to. Needs no torch."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cnnbench import console
from cnnbench.errors import InputError
from cnnbench.run_store.files import replacing


def check_target(option: str, target: str, *, stream: bool = True) -> None:
    """Check that a file can be written, before anything is computed.

    Args:
        option: the option that names it, for error messages.
        target: path of the file; with `stream` also `-` for standard output.
        stream: whether standard output is allowed.

    Raises:
        InputError: it is a folder, its folder does not exist, or it cannot be written to.
    """
    allowed = "a file, or - for standard output" if stream else "a file"
    if not target or (target == "-" and not stream):
        raise InputError(f"{f'{option} {target}'.strip()}: not a file name; allowed: {allowed}")
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
        problem = "is a folder" if path.is_dir() else "its folder does not exist"
        raise InputError(f"{option} {target}: {problem}; allowed: {allowed}")
    try:
        if path.exists() and not path.is_file():  # a device or a pipe: opening it might block
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            _try_writing(folder)
    except OSError as error:
        raise InputError(f"{option} {target}: cannot be written ({error.strerror})") from None


def check_folder(option: str, target: str) -> None:
    """Check that a folder can be created and written to, before anything is computed.

    Raises:
        InputError: it or a folder above it is a file, or cannot be written to.
    """
    path = Path(os.path.realpath(target))
    nearest = next(folder for folder in (path, *path.parents) if os.path.lexists(folder))
    if not nearest.is_dir():
        raise InputError(f"{option} {target}: {nearest} is not a folder; allowed: a folder, existing or new")
    try:
        _try_writing(nearest)
    except OSError as error:
        raise InputError(f"{option} {target}: cannot be written ({error.strerror})") from None


def _try_writing(folder: Path) -> None:
    """Write a temporary file: permissions alone do not tell on network disks, below /proc or as root."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def check_targets(**targets: str | None) -> None:
    """Check each option that is given with `check_target`, and that no two name the same file.

    Raises:
        InputError: a file that cannot be written, or is named twice.
    """
    given = {f"--{name}": target for name, target in targets.items() if target is not None}
    for option, target in given.items():
        check_target(option, target)
        same = [name for name, other in given.items() if _real(other) == _real(target) and name != option]
        if same:
            raise InputError(f"{option} {target}: the same target as {same[0]}; allowed: a file for each")


def check_spared(targets: Iterable[tuple[str, str | None]], files: Iterable[Path]) -> None:
    """Check that no file that is written would replace one that is read.

    Args:
        targets: options, with the files that they name.
        files: the files that are read.

    Raises:
        InputError: one would.
    """
    read = {_real(str(file)) for file in files}
    for option, target in targets:
        if target is not None and _real(target) in read:
            raise InputError(f"{option} {target}: would replace a file that is read; allowed: another file")


def _real(target: str) -> str:
    return target if target == "-" else os.path.realpath(target)


@contextmanager
def writing(target: str | None) -> Iterator[BinaryIO | None]:
    """Open a file that a user named; it is replaced only once it is complete.

    Args:
        target: path of the file; `-` for standard output; None for nothing, which yields None.

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
        with open_target(Path(target)) as file:
            yield file
    except BrokenPipeError:  # of standard output
        raise
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    console.console.print(f"written: {target}", highlight=False, soft_wrap=True, markup=False)


@contextmanager
def open_target(path: Path) -> Iterator[BinaryIO]:
    """Open a file that a user named: links are followed, pipes and devices are written to directly."""
    path = path.resolve()
    special = path.exists() and not path.is_file()
    with path.open("wb") if special else replacing(path) as file:
        yield file


def write_target(path: Path, content: str | bytes) -> None:
    """Write a file that a user named; see `open_target`."""
    with open_target(path) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
