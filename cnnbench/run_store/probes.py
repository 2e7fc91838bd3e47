"""Tables of what probes measured, one CSV file each in the run's folder. Needs no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench.run_store.reading import Unfit, decoded
from cnnbench.safe_text import legible, to_csv

FOLDER = "probes"

Cell = float | str

TEXTS = ("layer",)
"""Columns of names; all others are numbers."""


@dataclass(frozen=True)
class Table:
    """What one probe measured.

    Attributes:
        columns: their names; the first ones say what a row is about, such as the step and the layer.
        rows: a value for each column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def column(self, name: str) -> list[Cell]:
        """Return the values of a column."""
        place = list(self.columns).index(name)
        return [row[place] for row in self.rows]


def place(run: Path, name: str) -> Path:
    """Return the file of a probe."""
    return run / FOLDER / f"{name}.csv"


def names(run: Path) -> list[str]:
    """Return the files of probes, relative to the run's folder."""
    return sorted(f"{FOLDER}/{path.name}" for path in (run / FOLDER).glob("*.csv"))


def text(table: Table) -> str:
    """Return a table as CSV; floats read back exactly."""
    return to_csv([table.columns, *table.rows])


def parse(data: bytes) -> Table:
    """Read a table.

    Raises:
        Unfit: it is something else; the message says how.
    """
    content = decoded(data)
    if not content.endswith("\n"):
        raise Unfit("is cut off")
    try:
        columns, *rows = [line for line in csv.reader(io.StringIO(content, newline="")) if line]
    except (csv.Error, ValueError) as error:
        raise Unfit(f"is not a table ({error})") from None
    if any(len(row) != len(columns) for row in rows) or len(set(columns)) != len(columns):
        raise Unfit("has rows of different lengths, or a column twice")
    try:
        return Table(columns, [list(_cells(columns, row)) for row in rows])
    except ValueError:
        raise Unfit("has a text where a number belongs") from None


def _cells(columns: Iterable[str], row: Iterable[str]) -> Iterable[Cell]:
    for name, cell in zip(columns, row, strict=True):
        yield legible(cell) if name in TEXTS else int(cell) if cell.isdecimal() else float(cell)
