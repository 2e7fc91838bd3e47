"""Standard input, output and error of a process, which whoever started it may have closed, or may close."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, Self, TextIO, cast


def open_streams() -> None:
    """Open the standard streams that are closed, so that no file gets their numbers.

    Otherwise a message of Python or of a C library would land in whatever was opened first: a checkpoint.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest number: this one
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def flush_output(*, interrupted: bool) -> None:
    """Flush standard output, unless the terminal whose end interrupted the verb is gone."""
    try:
        sys.stdout.flush()
    except OSError:
        if not interrupted:
            raise
        drop_output()


def drop_output() -> None:
    """Discard what standard output still holds: Python would try to write it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Lasting:
    """Standard error as it is at the time; what cannot be written there is dropped.

    No training ends because the terminal, the disk or the reader of a pipe has gone before it.
    """

    @property
    def rich_proxied_file(self) -> Self:
        """The stream that rich writes to during a live display."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(_stderr(), name)

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            return _stderr().write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush what was written, or drop it."""
        try:
            _stderr().flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), _stderr().fileno())  # for other libraries, too


def _stderr() -> TextIO:
    """Return standard error, which rich replaces during a live display."""
    return cast(TextIO, getattr(sys.stderr, "rich_proxied_file", sys.stderr))


notes = cast(TextIO, Lasting())
"""Standard error, for notes and errors."""
