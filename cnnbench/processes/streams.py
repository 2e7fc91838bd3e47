"""Standard input, output and error of a process, which whoever started it may have closed."""

from __future__ import annotations

import os
import sys


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
