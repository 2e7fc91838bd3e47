"""The parts and classes of an image folder, and what in it is left out. Imports no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from cnnbench.data.image_file import SUFFIXES
from cnnbench.errors import InputError

NAMED = 8
"""Number of files or classes that an error names."""

PARTS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders that are parts of a data set, in any case of letters."""


@dataclass(frozen=True)
class Files:
    """Image files with their labels.

    Attributes:
        paths: N files.
        labels: N indices into `classes`.
        classes: names of the classes.
        left_out: what else is in the folder, with the number of files.
    """

    paths: list[Path]
    labels: list[int]
    classes: list[str]
    left_out: Counter[str] = field(default_factory=Counter)


def scan(root: Path) -> dict[str, Files]:
    """Return the splits of an image folder: `all`, or `train` and `test`, and `val` if there are all three.

    Parts are recognised by their usual names (`PARTS`). With train and val alone, as in ImageNet, results are
    published on val, so it is the test set. Hidden files and folders are ignored; links are followed.

    Raises:
        InputError: no folder, no images, a single class, classes that training never sees, or folders that
            may be parts or classes.
    """
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; expected {root}/<class>/<image>")
    parts = _parts(root)
    if not parts:
        _check_undivided(root)
        return {"all": _class_folders(root, None)}
    train = _class_folders(parts.pop("train"), None)
    if loose := _images_in(root):
        train.left_out["images beside the parts"] = loose
    if not parts:
        return {"all": train}
    if "test" not in parts:
        parts["test"] = parts.pop("val")
    return {"train": train} | {part: _class_folders(path, train.classes) for part, path in parts.items()}


def _parts(root: Path) -> dict[str, Path]:
    """Return the folders of train, val and test; none if the folders are classes.

    Raises:
        InputError: they may be either, or a part is missing or there twice.
    """
    names = folders(root)
    spelled = [name for name in names if name.casefold() in PARTS]
    if not spelled:
        return {}
    divided = [
        name for name in spelled if any(holds_images(root / name / sub) for sub in folders(root / name))
    ]
    others = [name for name in names if name not in spelled and holds_images(root / name)]
    if others and not divided:
        return {}  # boat, car, train
    if others:
        raise InputError(
            f"data.root={root}: may be parts of a data set ({some(spelled)}) or classes ({some(others)}); "
            "allowed: either of them alone"
        )
    parts: dict[str, Path] = {}
    for name in spelled:
        part = PARTS[name.casefold()]
        if part in parts:
            raise InputError(
                f"data.root={root}: both {parts[part].name} and {name} may be {part}; allowed: one"
            )
        parts[part] = root / name
    if "train" not in parts:
        raise InputError(
            f"data.root={root}: has {some(spelled)}, but no train; allowed: train, or class folders"
        )
    return parts


def _check_undivided(root: Path) -> None:
    """Check that class folders are not divided into parts, which would be mixed.

    Raises:
        InputError: one of them is.
    """
    for name in folders(root):
        inside: list[str] = []
        with suppress(InputError):  # a folder that cannot be read is named by the scan
            inside = [part for part in folders(root / name) if part.casefold() in PARTS]
        divided = [f"{name}/{part}" for part in inside if holds_images(root / name / part)]
        if "train" in {PARTS[part.rpartition("/")[2].casefold()] for part in divided} and len(divided) > 1:
            raise InputError(
                f"data.root={root}: parts inside of a class ({some(divided)}) would be mixed; "
                f"allowed: parts with class folders in them, such as train/{name}"
            )


def _images_in(root: Path) -> int:
    """Return the number of images in a folder itself."""
    return sum(is_image(path) for path in root.iterdir() if path.is_file())


def _class_folders(root: Path, classes: list[str] | None) -> Files:
    """Return all images below `root/<class>/`, in the order of their names.

    Args:
        root: the folder.
        classes: names of the classes; None: of the class folders.
    """

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"data.root={root}: {error.filename} cannot be read ({error.strerror})")

    left_out: Counter[str] = Counter()
    all_names = folders(root)
    files = {name: sorted(images_below(root / name, refuse, left_out)) for name in all_names}
    names = [name for name in all_names if files[name]]
    if not names:
        raise InputError(
            f"data.root={root}: no images; expected {root}/<class>/<image>, "
            f"an image ending in {' '.join(sorted(SUFFIXES))}{_seen(left_out)}"
        )
    if classes is None:
        if len(names) == 1:
            raise InputError(
                f"data.root={root}: one class only ({names[0]}); expected two or more class folders"
            )
        classes = names
    elif unknown := [name for name in names if name not in classes]:
        raise InputError(f"data.root={root}: classes that the training folder does not have: {some(unknown)}")
    if empty := [name for name in all_names if not files[name]]:
        left_out[f"folders without images ({some(empty)})"] = len(empty)
    if loose := _images_in(root):
        left_out["images beside the class folders"] = loose
    labels = [label for label, name in enumerate(classes) for _ in files.get(name, ())]
    return Files([path for name in names for path in files[name]], labels, classes, left_out)


def images_below(
    folder: Path,
    unread: Callable[[OSError], None],
    left_out: Counter[str] | None = None,
    above: frozenset[str] = frozenset(),
) -> Iterator[Path]:
    """Yield the image files in a folder and its subfolders, by their suffixes; hidden ones are ignored.

    Args:
        folder: the folder.
        unread: called with the error for each folder that cannot be read.
        left_out: counts other files, by their suffixes.
        above: real paths of the folders on the way here, to which a link may lead back.
    """
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        unread(error)
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.name[0] == ".":  # .ipynb_checkpoints holds copies
            continue
        if entry.is_dir():
            yield from images_below(path, unread, left_out, above | {here})
        elif is_image(path):
            yield path
        elif left_out is not None:
            left_out[f"files ending in {path.suffix.lower()}" if path.suffix else "files without ending"] += 1


def is_image(path: Path) -> bool:
    """Return whether a visible file counts as an image, by its suffix."""
    return path.suffix.lower() in SUFFIXES and path.name[0] != "."


def folders(root: Path) -> list[str]:
    """Return the names of the visible folders in a folder, sorted.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        raise InputError(f"data.root={root}: {error.filename} cannot be read ({error.strerror})") from error


def holds_images(folder: Path) -> bool:
    """Return whether there is an image in a folder or below it."""
    return next(images_below(folder, lambda error: None), None) is not None


def _seen(left_out: Counter[str]) -> str:
    return f"; seen: {', '.join(f'{what}: {count}' for what, count in left_out.items())}" if left_out else ""


def some(names: Sequence[str], most: int = NAMED) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
