"""Terminal output: the consoles, formatted numbers, and tables that fit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Self, TextIO, TypeVar, cast

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Item = TypeVar("Item")


class Piped(Console):
    """Console whose reader may close the pipe early (`| head -1`), which ends the command quietly."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError; rich would exit with 1, as if something had failed."""
        raise BrokenPipeError


class Lasting:
    """Standard error as it is at the time; what cannot be written there is dropped.

    No training ends because the terminal, the disk or the reader of a pipe has gone before it.
    """

    @property
    def rich_proxied_file(self) -> Self:
        """What rich writes to during a live display."""
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

console = Console(file=notes)
"""Progress and notes on standard error."""


_width_known = "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty())

out = Piped() if _width_known else Piped(width=120)
"""Results on standard output, so that they can be piped."""


def progress(items: Iterable[Item], description: str, total: int) -> Iterator[Item]:
    """Yield `items` with a progress bar, shown only in a terminal and removed at the end."""
    from rich.progress import track

    yield from track(
        items, description, total, console=console, transient=True, disable=not console.is_terminal
    )


def percent(value: Any) -> str:
    """Format 0.98765 as `98.77 %`, and a missing value as `-`."""
    return f"{100 * value:.2f} %" if isinstance(value, (int, float)) else "-"


def count(value: Any) -> str:
    """Format 1234567 as `1.23 M`."""
    if not isinstance(value, (int, float)):
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def duration(seconds: Any) -> str:
    """Format seconds: 75.3 as `1:15 min`, 4.2 as `4.2 s`, 0.0042 as `4.2 ms`."""
    if not isinstance(seconds, (int, float)):
        return "-"
    if 0 < seconds < 0.05:
        return milliseconds(1000 * seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def milliseconds(value: Any) -> str:
    """Format 12.345 as `12.3 ms`."""
    return f"{value:.3g} ms" if isinstance(value, (int, float)) else "-"


def fitting(
    headers: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    labels: int,
    title: str = "",
    fold: int | None = None,
    least: int = 1,
) -> Table:
    """Return a table that fits the terminal: columns are dropped from the right, and named below the table.

    Args:
        headers: one per column.
        rows: cells, as many per row as there are headers.
        labels: number of leading columns that identify a row; they are always shown.
        title: shown above the table.
        fold: characters per line to which labels are folded, or fewer where space is short; None for 60
            characters at most, without folding before.
        least: number of columns after the labels that are always shown; numbers are never cut.
    """
    rows, most = list(rows), 400 if fold else 60
    for shown in range(len(headers), labels + least - 1, -1):
        hidden = f"too narrow for {', '.join(headers[shown:])}" if shown < len(headers) else None
        table = Table(
            title=Text(legible(title, 200), "bold") if title else None,
            caption=Text(legible(hidden, 200)) if hidden else None,
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for i, header in enumerate(headers[:shown]):
            if i < labels:
                table.add_column(Text(legible(header)), overflow="fold", max_width=fold)
            else:
                table.add_column(Text(legible(header)), justify="right", no_wrap=labels < i)
        for row in rows:
            texts = (Text(legible(cell, most)) if isinstance(cell, str) else cell for cell in row[:shown])
            table.add_row(*texts)
        if fits(table):
            break
    return table


def fits(table: Table) -> bool:
    """Return whether the terminal is wide enough for a table without folding."""
    return out.measure(table, options=out.options.update(max_width=10_000)).maximum <= out.width


def legible(text: str, most: int = 60) -> str:
    """Return a text from outside as one line without control characters, `most` characters at most."""
    line = "".join(character if character.isprintable() else " " for character in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"
