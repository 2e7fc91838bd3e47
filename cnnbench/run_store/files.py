"""What a user names on the command line of a verb: a finished run, and files to write. Needs no torch."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cnnbench import console
from cnnbench.errors import InputError


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


def _place(target: str) -> str:
    return target if target == "-" else os.path.realpath(target)


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
    console.console.print(f"written: {target}", highlight=False, soft_wrap=True, markup=False)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that takes the place of `path` once it is whole, and never before."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def replace_by_link(path: Path, source: Path) -> None:
    """Replace a file by a second name of `source`, or by a copy where the disk has no hard links."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:
        with source.open("rb") as content, replacing(path) as file:
            shutil.copyfileobj(content, file)
    else:
        partial.replace(path)


def write_atomic(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old content or the new, never a part."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def where_asked(path: Path) -> Iterator[BinaryIO]:
    """A file that a user named, to write into: a link is followed, a pipe or a device is written into."""
    path = path.resolve()
    special = path.exists() and not path.is_file()
    with path.open("wb") if special else replacing(path) as file:
        yield file


def write_where_asked(path: Path, content: str | bytes) -> None:
    """Write a file that a user named; see `where_asked`."""
    with where_asked(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
