"""Which image files are meant: paths, folders, patterns, or a list on standard input. Needs no torch."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnbench.data.folder import SUFFIXES, images_below
from cnnbench.runs import WANDB


def listed(words: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """The files that are meant, in the order given; those of a folder or a pattern in that of their names.

    Returns:
        The files, and the words that mean none, each with the reason.
    """
    files: list[Path] = []
    faults: list[tuple[str, str]] = []
    for word in _with_input(words):
        path = Path(word)
        # os.path, since Path raises for what is too long for a name, or lies where one may not look
        if os.path.isdir(word):  # noqa: PTH112 - Path.is_dir raises for long names
            found = sorted(file for file in images_below(path) if not _logged(file.relative_to(path)))
            why = f"no images in this folder (files ending in {' '.join(sorted(SUFFIXES))})"
        elif os.path.exists(word) or not glob.has_magic(word):  # noqa: PTH110 - so does Path.exists
            found, why = [path], ""  # what cannot be opened is told when it is
        else:
            matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - absolute ones too
            found = [Path(match) for match in matches if not os.path.isdir(match)]  # noqa: PTH112
            why = "no file matches"
        files += found
        faults += [(word, why)] * (not found)
    return files, faults


def _logged(file: Path) -> bool:
    """Whether it lies in a folder of W&B's: pictures that a run has logged are nobody's photographs."""
    return any(WANDB.fullmatch(name) for name in file.parts)


def _with_input(words: Sequence[str]) -> list[str]:
    """`-` replaced by the paths on standard input, one a line."""
    found: list[str] = []
    for word in words:
        found += [line for line in sys.stdin.read().splitlines() if line] if word == "-" else [word]
    return found
