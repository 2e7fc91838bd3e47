"""A folder of class folders: what lies in it, whether every file is an image, what its content is.

Needs no torch: a finished run on an image folder is answered from disk after a look at the files.
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

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
NAMED = 8
"""An error names so many of the files or classes that it is about."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Files:
    """Image files with their labels, indices into `classes`."""

    paths: list[Path]
    labels: list[int]
    classes: list[str]


def scan(root: Path) -> dict[str, Files]:
    """The parts of an image folder: `all`, or `train` and `test`, and `val` if there are all three.

    With `train` and `val` alone, as ImageNet is laid out, `val` is what results are quoted on: the
    test set. Hidden files and folders are passed over.

    Raises:
        InputError: no folder, no images, a single class, or classes that training never sees.
    """
    if not root.is_dir():
        raise InputError(f"data.root={root}: no such folder; expected {root}/<class>/<image>")
    if not (root / "train").is_dir():
        return {"all": _class_folders(root, None)}
    train = _class_folders(root / "train", None)
    held_out = {part: root / part for part in ("val", "test") if (root / part).is_dir()}
    if not held_out:
        return {"all": train}
    if "test" not in held_out:
        held_out = {"test": held_out["val"]}
    return {"train": train} | {part: _class_folders(path, train.classes) for part, path in held_out.items()}


def _class_folders(root: Path, classes: list[str] | None) -> Files:
    """Every image below `root/<class>/`, in the order of the names."""

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"data.root={root}: {error.filename} cannot be read ({error.strerror})")

    try:
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    except OSError as error:
        refuse(error)
    files = {name: sorted(images_below(root / name, refuse)) for name in folders}
    found = [name for name in folders if files[name]]
    if not found:
        raise InputError(
            f"data.root={root}: no images; expected {root}/<class>/<image>, "
            f"an image ending in {' '.join(sorted(SUFFIXES))}"
        )
    if classes is None:
        if len(found) == 1:
            raise InputError(
                f"data.root={root}: one class only ({found[0]}); expected two or more class folders"
            )
        classes = found
    elif unknown := [name for name in found if name not in classes]:
        raise InputError(
            f"data.root={root}: classes that the training folder does not have: {_some(unknown)}"
        )
    labels = [label for label, name in enumerate(classes) for _ in files.get(name, ())]
    return Files([path for name in found for path in files[name]], labels, classes)


def images_below(folder: Path, unread: Callable[[OSError], None]) -> Iterator[Path]:
    """The image files in a folder and in those below it, by their endings; hidden ones are passed over.

    Args:
        folder: where they lie.
        unread: is told of each folder that cannot be looked into.
    """
    for where, folders, names in os.walk(folder, onerror=unread):
        folders[:] = [name for name in folders if name[0] != "."]  # .ipynb_checkpoints holds copies
        visible = (Path(where, name) for name in names if name[0] != ".")
        yield from (path for path in visible if path.suffix.lower() in SUFFIXES)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def open_rgb(path: Path, size: int) -> Image.Image:
    """An image file as 8-bit RGB, upright.

    Large JPEGs are decoded at a fraction of their size, of at least 2 x `size` pixels a side.

    Raises:
        Exception: the file is not an image, or a broken one; Pillow's formats raise what they like.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for somebody to write into it
        raise ValueError("a folder, a pipe or a device; allowed: a file")
    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            # 16 bits: Pillow would cut off at 255 what is brighter, and leave a white image
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        if image.mode in ("I", "F"):
            raise ValueError("pixels of 32 bits; allowed: 8 or 16")
        if "transparency" in image.info:
            return image.convert("RGBA").convert("RGB")
        return image.convert("RGB")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`map` in threads, in order; a part at a time, since every item that waits takes memory."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), 1024):
            yield from pool.map(function, items[start : start + 1024])


def fingerprint(root: Path) -> str:
    """A digest of the names and contents of all images below `root`, wherever `root` lies.

    Reading everything costs about a second per gigabyte; the result is kept beside a digest of
    names, sizes and times of change, so that it is read again only when one of these has changed.

    Raises:
        InputError: see `scan`; a file that cannot be read.
    """
    paths = [path for files in scan(root).values() for path in files.paths]
    memory = _Memory(root, paths)
    if "content" not in memory.facts:
        digest = hashlib.blake2b(digest_size=16)
        try:
            for path, content in zip(paths, in_threads(_digest, paths), strict=True):
                digest.update(os.fsencode(path.relative_to(root)) + b"\0" + content + b"\n")
        except OSError as error:
            raise InputError(
                f"data.root={root}: {error.filename} cannot be read ({error.strerror})"
            ) from error
        memory.remember("content", digest.hexdigest())
    return memory.facts["content"]


def _digest(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
        raise OSError(errno.EINVAL, "a pipe or a device; allowed: a file", str(path))
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()


def check_images(root: Path, paths: list[Path]) -> None:
    """Decode every file once, with a progress bar; remembered until a file changes.

    Raises:
        InputError: naming the files that are not readable images, and how many they are.
    """
    memory = _Memory(root, paths)
    if memory.facts.get("checked") == "yes":
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
    memory.remember("checked", "yes")


def _fault(path: Path) -> str:
    """What is wrong with an image file; empty if nothing is."""
    try:
        open_rgb(path, 4)  # JPEG: all of the file is read, little of it computed
    except Exception as error:  # Pillow's formats raise what they like
        return why(path, error)
    return ""


def why(path: Path, error: Exception) -> str:
    """What is wrong with an image file that raised `error` when it was opened, in a few words."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        with suppress(OSError):  # it may be gone by now
            return "empty file" if path.stat().st_size == 0 else "not an image"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


class _Memory:
    """What is known of the files in a folder, valid while names, sizes and times of change are the same."""

    def __init__(self, root: Path, paths: list[Path]) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnbench" / "folders"
        self.file = cache / (hashlib.blake2b(bytes(root.resolve()), digest_size=12).hexdigest() + ".json")
        stamp = _stamp(root, paths)
        try:
            facts = json.loads(self.file.read_text())
        except (OSError, ValueError):
            facts = None
        known = isinstance(facts, dict) and facts.get("stamp") == stamp
        self.facts: dict[str, str] = facts if known else {"stamp": stamp}

    def remember(self, key: str, value: str) -> None:
        self.facts[key] = value
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(self.facts))
            partial.replace(self.file)
        except OSError:
            pass  # a home that cannot be written to: looked at anew next time


def _stamp(root: Path, paths: list[Path]) -> str:
    """A digest of the files' names, sizes and times of change (of the inode too: mtime can be set back)."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            now = path.stat()
            change = f"{now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}"
        except OSError:
            change = "unreadable"
        digest.update(os.fsencode(path.relative_to(root)) + f"\0{change}\n".encode())
    return digest.hexdigest()
