"""What people see in the terminal: one console and the tables of runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Item = TypeVar("Item")


class Piped(Console):
    """A console whose reader may go away (`| head -1`): the command ends as others do then."""

    def on_broken_pipe(self) -> None:
        """Instead of ending the process with 1, as if something had failed."""
        raise BrokenPipeError


console = Console(stderr=True)
"""Progress and notes; results go to `out`, so that they can be piped."""


_width_known = "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty())

out = Piped() if _width_known else Piped(width=120)


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """`items`, with a bar in a terminal that goes away at the end."""
    from rich.progress import track

    yield from track(items, what, total, console=console, transient=True, disable=not console.is_terminal)


def percent(value: Any) -> str:
    """0.98765 as `98.77 %`; `-` for what is missing."""
    return f"{100 * value:.2f} %" if isinstance(value, (int, float)) else "-"


def count(value: Any) -> str:
    """1234567 as `1.23 M`."""
    if not isinstance(value, (int, float)):
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def duration(seconds: Any) -> str:
    """75.3 as `1:15 min`, 4.2 as `4.2 s`, 0.0042 as `4.2 ms`."""
    if not isinstance(seconds, (int, float)):
        return "-"
    if 0 < seconds < 0.05:
        return milliseconds(1000 * seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def milliseconds(value: Any) -> str:
    """12.345 as `12.3 ms`."""
    return f"{value:.3g} ms" if isinstance(value, (int, float)) else "-"


def fitting(
    headers: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    labels: int,
    title: str = "",
    fold: int | None = None,
    least: int = 1,
) -> Table:
    """A table as wide as the terminal allows: what does not fit is left out by columns, the last first.

    The first `labels` columns say what a row is, and stay, and so do `least` figures after them; a figure is
    never cut. What is left out is named below the table. Labels are folded to `fold` letters a line, if it is
    given, and to fewer where there is no room for the figures beside them.
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
    """Whether the terminal is wide enough for a table, without folding anything."""
    return out.measure(table, options=out.options.update(max_width=10_000)).maximum <= out.width


def legible(text: str, most: int = 60) -> str:
    """A text of somebody else's as one line: no control characters, no more than that many letters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"
