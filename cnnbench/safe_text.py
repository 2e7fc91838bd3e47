"""Texts from outside, such as names of folders and classes: what of them reaches a terminal, a log or a CSV.

Everything that is printed passes through `clean`: results and notes in `cnnbench.console`, errors here, logs
in `cnnbench.processes.logs`. Imports nothing heavy, since errors are printed by `cnnbench.cli`.
"""

from __future__ import annotations

import csv
import traceback
from collections.abc import Iterable
from io import StringIO
from typing import Any

from cnnbench.streams import notes

MARK = "\ufffd"
"""Stands for a character that a terminal would act on, or cannot show."""

JOINERS = "\u200c\u200d"
"""Invisible characters that Persian and families of emoji need; they move nothing."""

BYTES = "".join(map(chr, range(0xDC80, 0xDD00)))
"""Bytes of names that are not UTF-8, as Python represents them."""

FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters of a cell that spreadsheets compute, some of full width (owasp.org, CSV injection)."""


def clean(text: str, kept: str = JOINERS) -> str:
    """Return a text as one line of the same length, without control and direction characters.

    Args:
        text: from anywhere.
        kept: characters that are not printable, but harmless.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in kept else " " if character.isspace() else MARK
        for character in text
    )


def clean_lines(text: str) -> str:
    """Return a text of several lines, each of them clean; for tracebacks."""
    return "\n".join(map(clean, text.split("\n")))


def legible(text: str, most: int = 60) -> str:
    """Return a text from outside as one clean line, `most` characters at most."""
    line = clean(text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def print_error(error: object, code: int = 2) -> int:
    """Print an error as one line on standard error, and return the exit code."""
    print(f"error: {clean(str(error))}", file=notes)
    return code


def print_traceback(error: BaseException) -> None:
    """Print an error that was not foreseen."""
    print(clean_lines("".join(traceback.format_exception(error))), end="", file=notes)


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as CSV that a spreadsheet shows and does not run; write it with `surrogateescape`.

    Texts are clean, and begin with an apostrophe where they would be a formula; numbers stay numbers, and
    missing values are empty. Bytes of file names that are not UTF-8 are kept.
    """
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([*map(_cell, row)] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return "" if value is None else value
    text = clean(value, JOINERS + BYTES)
    # Bytes that came one by one, as JSON can have them, may form a character together.
    text = clean(text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape"), JOINERS + BYTES)
    if not text.lstrip().startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
