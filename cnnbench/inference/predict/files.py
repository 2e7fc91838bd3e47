"""Which image files are meant: paths, folders, patterns, or a list on standard input. Needs no torch."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnbench.data.image_folder import SUFFIXES, images_below
from cnnbench.run_store.find import WANDB


def listed(words: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """The files that are meant, in the order given; those of a folder or a pattern in that of their names.

    Returns:
        The files, and the words that mean none, each with the reason.
    """
    files: list[Path] = []
    faults: list[tuple[str, str]] = []
    for word in _with_input(words, faults):
        # os.path, since Path raises for what is too long for a name, or lies where one may not look
        if os.path.isdir(word):  # noqa: PTH112 - Path.is_dir raises for long names
            found, unread = _below(Path(word))
            why = f"no images in this folder (files ending in {' '.join(sorted(SUFFIXES))})"
        elif os.path.exists(word) or not glob.has_magic(word):  # noqa: PTH110 - so does Path.exists
            found, unread, why = [Path(word)], [], ""  # what cannot be opened is told when it is
        else:
            found, unread, why = [], [], "no file matches"
            for match in sorted(glob.glob(word, recursive=True)):  # noqa: PTH207 - absolute ones too
                isdir = os.path.isdir(match)  # noqa: PTH112
                more, without = _below(Path(match)) if isdir else ([Path(match)], [])
                found, unread = found + more, unread + without
            found, unread = sorted({*found}), sorted({*unread})  # `**` matches folders and what lies in them
        files += found
        faults += unread or [(word, why)] * (not found)
    return files, faults


def _below(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """The images in a folder and in those below it, and the folders that cannot be looked into."""
    unread: list[tuple[str, str]] = []

    def skip(error: OSError) -> None:
        unread.append((str(error.filename), f"cannot be read ({error.strerror})"))

    found = (file for file in images_below(folder, skip) if not _logged(file.relative_to(folder)))
    return sorted(found), unread


def _logged(file: Path) -> bool:
    """Whether it lies in a folder of W&B's: pictures that a run has logged are nobody's photographs."""
    return any(WANDB.fullmatch(name) for name in file.parts)


def _with_input(words: Sequence[str], faults: list[tuple[str, str]]) -> list[str]:
    """`-` replaced by the paths on standard input, one a line, of whatever bytes."""
    found: list[str] = []
    for word in words:
        if word != "-":
            found.append(word)
            continue
        text = os.fsdecode(sys.stdin.buffer.read()) if sys.stdin is not None else ""  # None: it is closed
        lines = [line for one in text.split("\n") if (line := one.removesuffix("\r"))]
        faults += [("-", "no paths on standard input")] * (not lines)
        found += lines
    return found
