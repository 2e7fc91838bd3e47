"""Predictions as a table, JSON or CSV; the files are written while later images are still being predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rich.table import Table

from cnnbench import __version__, console
from cnnbench.inference.trained_model import CHECKPOINT, Trained
from cnnbench.safe_text import to_csv


class Guess(NamedTuple):
    """A class and its probability."""

    name: str
    probability: float


class Predictions:
    """Collects rows for the terminal, or writes them to files.

    Args:
        trained: the model.
        top: number of guesses per image.
        as_json, as_csv: files to write, or None.
    """

    def __init__(self, trained: Trained, top: int, as_json: BinaryIO | None, as_csv: BinaryIO | None) -> None:
        self.top, self.json, self.csv = top, as_json, as_csv
        self.rows: list[list[str]] = []
        self.listed = as_json is None and as_csv is None
        self.first = True
        if as_json is not None:
            about = {
                "run": trained.run.path.name,
                "checkpoint": CHECKPOINT,
                "cnnbench": __version__,
                "classes": trained.preparation.classes,
            }
            as_json.write(f'{json.dumps(about)[:-1]}, "images": ['.encode())
        if as_csv is not None:
            more = [f"{key}_{k}" for k in range(2, top + 1) for key in ("class", "probability")]
            self._row(["image", "class", "probability", *more])

    def add(self, path: Path, guesses: list[Guess]) -> None:
        """Add an image with its guesses, the most probable first."""
        if self.json is not None:
            entries = [{"class": name, "probability": round(p, 8)} for name, p in guesses]
            self._entry({"image": str(path), "guesses": entries})
        if self.csv is not None:
            self._row([str(path), *(cell for name, p in guesses for cell in (name, f"{p:.6g}"))])
        if self.listed:
            self.rows.append(
                [str(path), *(f"{console.legible(name, 24)} {console.percent(p)}" for name, p in guesses)]
            )

    def fail(self, path: str, why: str) -> None:
        """Add an image that could not be read; a CSV leaves it out."""
        self._entry({"image": path, "error": why})

    def finish(self) -> None:
        """Close the JSON, or print the table."""
        if self.json is not None:
            self.json.write(b"\n]}\n")
        if self.listed and self.rows:
            console.out.print(self._table())

    def _entry(self, entry: dict[str, Any]) -> None:
        if self.json is not None:
            self.json.write(("\n" if self.first else ",\n").encode() + json.dumps(entry).encode())
            self.first = False

    def _row(self, cells: list[str]) -> None:
        if self.csv is not None:
            self.csv.write(to_csv([cells]).encode("utf-8", "surrogateescape"))

    def _table(self) -> Table:
        headers = ["image", *(f"{k}." for k in range(1, self.top + 1))]
        return console.fitting(headers, self.rows, labels=1, fold=60)
