"""The image files to predict: paths, folders, patterns, or a list on standard input. Needs no torch."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnbench.data.folder_scan import images_below
from cnnbench.data.image_file import SUFFIXES
from cnnbench.run_store.find import WANDB


def listed(words: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """List the files that the arguments name, in the order given, and by name within a folder or a pattern.

    Args:
        words: paths, folders, patterns, or `-` for paths on standard input.

    Returns:
        The files, and the words or folders without a file, each with the reason.
    """
    files: list[Path] = []
    faults: list[tuple[str, str]] = []
    for word in _with_input(words, faults):
        # os.path, since Path raises for names that are too long and in folders without permission
        if os.path.isdir(word):  # noqa: PTH112 - Path.is_dir raises for long names
            matches, unread = _below(Path(word))
            why = f"no images in this folder (files ending in {' '.join(sorted(SUFFIXES))})"
        elif os.path.exists(word) or not glob.has_magic(word):  # noqa: PTH110 - so does Path.exists
            matches, unread, why = [Path(word)], [], ""  # reported when it is opened
        else:
            matches, unread, why = [], [], "no file matches"
            for match in sorted(glob.glob(word, recursive=True)):  # noqa: PTH207 - absolute ones too
                isdir = os.path.isdir(match)  # noqa: PTH112
                below, errors = _below(Path(match)) if isdir else ([Path(match)], [])
                matches, unread = matches + below, unread + errors
            # `**` matches folders and also the files in them.
            matches, unread = sorted({*matches}), sorted({*unread})
        files += matches
        faults += unread or [(word, why)] * (not matches)
    return files, faults


def _below(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    """Return the images in a folder and its subfolders, and the folders that cannot be read."""
    unread: list[tuple[str, str]] = []

    def skip(error: OSError) -> None:
        unread.append((str(error.filename), f"cannot be read ({error.strerror})"))

    images = (file for file in images_below(folder, skip) if not _logged(file.relative_to(folder)))
    return sorted(images), unread


def _logged(file: Path) -> bool:
    """Return whether a file is in a W&B folder: plots that a run logged are not images to predict."""
    return any(WANDB.fullmatch(name) for name in file.parts)


def _with_input(words: Sequence[str], faults: list[tuple[str, str]]) -> list[str]:
    """Replace `-` by the paths on standard input, one per line, in any encoding."""
    expanded: list[str] = []
    for word in words:
        if word != "-":
            expanded.append(word)
            continue
        text = os.fsdecode(sys.stdin.buffer.read()) if sys.stdin is not None else ""  # None: closed
        lines = [path for line in text.split("\n") if (path := line.removesuffix("\r"))]
        faults += [("-", "no paths on standard input")] * (not lines)
        expanded += lines
    return expanded
