"""Terminal output: the consoles, formatted numbers, and tables that fit."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from cnnbench.safe_text import JOINERS, clean
from cnnbench.safe_text import legible as legible  # for those that format what is printed
from cnnbench.streams import notes

if TYPE_CHECKING:
    from rich.status import Status

Item = TypeVar("Item")


class CleanConsole(Console):
    """Console that shows texts from anywhere as they are: as one line, without control characters or markup.

    A text with several lines is printed as several, or one by one with `sep`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as one clean line; rich calls this for all strings, those in tables included."""
        return super().render_str(clean(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, and clean what did not come as a string; the codes of rich itself are separate segments."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(clean(segment.text, f"\n{JOINERS}"), segment.style)

    def status(self, status: RenderableType, **options: Any) -> Status:
        """Show a line while something takes its time."""
        return super().status(self.render_str(status) if isinstance(status, str) else status, **options)


class Piped(CleanConsole):
    """Console whose reader may close the pipe early (`| head -1`), which ends the command quietly."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError; rich would exit with 1, as if something had failed."""
        raise BrokenPipeError


console = CleanConsole(file=notes)
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


def number(value: Any, form: str = ".4g") -> str:
    """Format a number, and a value that is missing, or not finite, as `-`."""
    return f"{value:{form}}" if is_finite(value) else "-"


def is_finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def percent(value: Any) -> str:
    """Format 0.98765 as `98.77 %`, and a missing value as `-`."""
    return f"{100 * value:.2f} %" if is_finite(value) else "-"


def share(value: Any) -> str:
    """Format a measured share, which may exceed 100 %, without decimals; `-` if it is missing."""
    return f"{100 * value:.0f} %" if is_finite(value) else "-"


def count(value: Any) -> str:
    """Format 1234567 as `1.23 M`."""
    if not is_finite(value):
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def duration(seconds: Any) -> str:
    """Format seconds: 75.3 as `1:15 min`, 4.2 as `4.2 s`, 0.0042 as `4.2 ms`."""
    if not is_finite(seconds):
        return "-"
    if 0 < seconds < 0.05:
        return milliseconds(1000 * seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def milliseconds(value: Any) -> str:
    """Format 12.345 as `12.3 ms`."""
    return f"{value:.3g} ms" if is_finite(value) else "-"


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
