"""Folders of class folders: their files and labels, checks of every image, and the digest of the content.

Imports no torch: to show a finished run on an image folder, only the digest is needed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from cnnbench.errors import InputError
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.reading import Unfit, checksum, parse_json, read

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
NAMED = 8
"""Number of files or classes that an error names."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Files:
    """Image files with their labels.

    Attributes:
        paths: N files.
        labels: N indices into `classes`.
        classes: names of the classes.
    """

    paths: list[Path]
    labels: list[int]
    classes: list[str]


def scan(root: Path) -> dict[str, Files]:
    """Return the splits of an image folder: `all`, or `train` and `test`, and `val` if there are all three.

    With `train` and `val` alone, as in ImageNet, results are published on `val`, so it is the test set.
    Hidden files and folders are ignored.

    Raises:
        InputError: no folder, no images, a single class, or classes that training never sees.
    """
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; expected {root}/<class>/<image>")
    if not (root / "train").is_dir():
        return {"all": _class_folders(root, None)}
    train = _class_folders(root / "train", None)
    held_out = {split: root / split for split in ("val", "test") if (root / split).is_dir()}
    if not held_out:
        return {"all": train}
    if "test" not in held_out:
        held_out = {"test": held_out["val"]}
    return {"train": train} | {split: _class_folders(path, train.classes) for split, path in held_out.items()}


def _class_folders(root: Path, classes: list[str] | None) -> Files:
    """Return all images below `root/<class>/`, in the order of their names.

    Args:
        root: the folder.
        classes: names of the classes; None: of the class folders.
    """

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"data.root={root}: {error.filename} cannot be read ({error.strerror})")

    try:
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        refuse(error)
    files = {name: sorted(images_below(root / name, refuse)) for name in folders}
    names = [name for name in folders if files[name]]
    if not names:
        raise InputError(
            f"data.root={root}: no images; expected {root}/<class>/<image>, "
            f"an image ending in {' '.join(sorted(SUFFIXES))}"
        )
    if classes is None:
        if len(names) == 1:
            raise InputError(
                f"data.root={root}: one class only ({names[0]}); expected two or more class folders"
            )
        classes = names
    elif unknown := [name for name in names if name not in classes]:
        raise InputError(
            f"data.root={root}: classes that the training folder does not have: {_some(unknown)}"
        )
    labels = [label for label, name in enumerate(classes) for _ in files.get(name, ())]
    return Files([path for name in names for path in files[name]], labels, classes)


def images_below(folder: Path, unread: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the image files in a folder and its subfolders, by their suffixes; hidden ones are ignored.

    Args:
        folder: the folder.
        unread: called with the error for each folder that cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=unread):
        folders[:] = [name for name in folders if name[0] != "."]  # .ipynb_checkpoints holds copies
        visible = (Path(parent, name) for name in names if name[0] != ".")
        yield from (path for path in visible if path.suffix.lower() in SUFFIXES)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def open_rgb(path: Path, size: int) -> Image.Image:
    """Read an image file as 8-bit RGB, rotated upright.

    Large JPEGs are decoded at a reduced scale of 2 x `size` or more pixels a side.

    Raises:
        Exception: the file is no image, or a broken one; Pillow's formats raise many kinds.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
        raise ValueError("a folder, a pipe or a device; allowed: a file")
    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            # 16 bits: Pillow would clip the values at 255, which leaves a white image
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        if image.mode in ("I", "F"):
            raise ValueError("pixels of 32 bits; allowed: 8 or 16")
        if "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Map in threads, in order; in chunks, since every waiting item takes memory."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), 1024):
            yield from pool.map(function, items[start : start + 1024])


def fingerprint(root: Path) -> str:
    """Return a digest of the names and contents of all images below `root`, independent of its path.

    Reading all files takes about a second per gigabyte. The result is cached with a digest of names, sizes
    and times of change: files are read again only if one of these has changed.

    Raises:
        InputError: see `scan`; a file that cannot be read.
    """
    paths = [path for files in scan(root).values() for path in files.paths]
    cache = _Cache(root, paths)
    if "content" not in cache.facts:
        digest = hashlib.blake2b(digest_size=16)
        try:
            for path, content in zip(paths, in_threads(_digest, paths), strict=True):
                digest.update(os.fsencode(path.relative_to(root)) + b"\0" + content + b"\n")
        except OSError as error:
            raise InputError(
                f"data.root={root}: {error.filename} cannot be read ({error.strerror})"
            ) from error
        cache.store("content", digest.hexdigest())
    return cache.facts["content"]


def _digest(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for a writer
        raise OSError(errno.EINVAL, "a pipe or a device; allowed: a file", str(path))
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()


def check_images(root: Path, paths: list[Path]) -> None:
    """Check that every file is an image by decoding it, with a progress bar; cached until a file changes.

    Raises:
        InputError: some are not; it names and counts them.
    """
    cache = _Cache(root, paths)
    if cache.facts.get("checked") == "yes":
        return
    from cnnbench.console import progress

    checked = progress(in_threads(_fault, paths), "checking images", len(paths))
    faults = [
        f"{path.relative_to(root)} ({fault})" for path, fault in zip(paths, checked, strict=True) if fault
    ]
    if faults:
        raise InputError(
            f"data.root={root}: {len(faults)} of {len(paths)} files cannot be read as images: {_some(faults)}"
        )
    cache.store("checked", "yes")


def _fault(path: Path) -> str:
    """Return why an image file cannot be read; empty if it can."""
    try:
        open_rgb(path, 4)  # a JPEG is read to its end, but only decoded at a small scale
    except Exception as error:  # Pillow's formats raise many kinds
        return why(path, error)
    return ""


def why(path: Path, error: Exception) -> str:
    """Return in a few words why opening an image file raised `error`."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        with suppress(OSError):  # it may be gone by now
            return "empty file" if path.stat().st_size == 0 else "not an image"
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(message.split()) or type(error).__name__


class _Cache:
    """Cached facts about the files of a folder, valid while their names, sizes and times are the same."""

    def __init__(self, root: Path, paths: list[Path]) -> None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnbench" / "folders"
        self.file = folder / (hashlib.blake2b(bytes(root.resolve()), digest_size=12).hexdigest() + ".json")
        stamp = _stamp(root, paths)
        try:
            facts = parse_json(read(self.file))
        except (FileNotFoundError, Unfit):
            facts = {}
        valid = facts.get("stamp") == stamp and facts.get("checksum") == checksum(facts)
        self.facts: dict[str, str] = facts if valid else {"stamp": stamp}

    def store(self, key: str, value: str) -> None:
        self.facts[key] = value
        with suppress(OSError):  # a home that cannot be written to: read again next time
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.file, json.dumps(self.facts | {"checksum": checksum(self.facts)}))


def _stamp(root: Path, paths: list[Path]) -> str:
    """Return a digest of the files' names, sizes and times of change (ctime too: mtime can be set back)."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            now = path.stat()
            change = f"{now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}"
        except OSError:
            change = "unreadable"
        digest.update(os.fsencode(path.relative_to(root)) + f"\0{change}\n".encode())
    return digest.hexdigest()
