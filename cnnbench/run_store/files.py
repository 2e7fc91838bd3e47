"""Atomic replacement of files, also after a crash of the machine. Needs no torch."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""Errors of file systems that cannot flush a folder."""


class Files:
    """Writer of files that readers see complete or not at all.

    Each file is written under another name, flushed to the disk, and renamed; then its folder is flushed, so
    that the rename lasts.
    """

    def partial(self, path: Path) -> Path:
        """Return the path under which a file is written until it is complete."""
        return path.with_name(f".{path.name}.{os.getpid()}")

    def check(self) -> None:
        """Check that this process may still write; it is called before each change."""

    @contextmanager
    def replacing(self, path: Path) -> Iterator[BinaryIO]:
        """Open a file that replaces `path` once it is complete; after an error `path` is as it was."""
        self.check()
        with self._partial(path) as partial:
            with partial.open("w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            self.move(partial, path)

    def move(self, source: Path, path: Path) -> None:
        """Replace a file by `source`, which was made by this object."""
        self.check()
        source.replace(path)
        sync_folder(path.parent)

    def link(self, path: Path, source: Path) -> None:
        """Replace a file by a hard link to `source`, or by a copy where the disk has no hard links.

        It lasts once something else in its folder was replaced.
        """
        self.check()
        with self._partial(path) as partial:
            try:
                os.link(source, partial)
            except FileNotFoundError:
                raise
            except OSError:
                with source.open("rb") as content, self.replacing(path) as file:
                    shutil.copyfileobj(content, file)
            else:
                self.check()
                partial.replace(path)

    def remove(self, path: Path) -> None:
        """Delete a file, if it exists."""
        self.check()
        with self._partial(path) as partial, suppress(FileNotFoundError):
            path.rename(partial)  # fails where this process may no longer write
            sync_folder(path.parent)

    def write(self, path: Path, text: str) -> None:
        """Replace a text file."""
        with self.replacing(path) as file:
            file.write(text.encode())

    @contextmanager
    def _partial(self, path: Path) -> Iterator[Path]:
        """Yield the partial path of a file, at which nothing exists before the block nor after it."""
        partial = self.partial(path)
        partial.unlink(missing_ok=True)
        try:
            yield partial
        finally:
            with suppress(OSError):  # an error of the block matters more
                partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, so that they are still there after a crash of the machine."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def delete(path: Path) -> None:
    """Delete a file, a link, or a folder with all that it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that what was renamed in it stays renamed after a crash of the machine."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(descriptor)


FILES = Files()

replacing = FILES.replacing


def write_atomic(path: Path, text: str) -> None:
    """Replace a file so that readers see its old content or its new, never a mixture."""
    FILES.write(path, text)
