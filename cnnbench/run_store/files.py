"""Atomic replacement of files. Needs no torch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` once it is complete; after an error `path` is as it was."""
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
    """Replace a file by a hard link to `source`, or by a copy where the disk has no hard links."""
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
    """Replace a file so that readers see its old content or its new, never a mixture."""
    with replacing(path) as file:
        file.write(text.encode())
