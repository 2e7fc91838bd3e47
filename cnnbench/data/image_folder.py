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
from typing import NoReturn, TypeVar

from cnnbench.data.image_file import SUFFIXES, Memory, look, open_rgb
from cnnbench.errors import InputError, Unreadable
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.reading import Unfit, checksum, parse_json, read

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
        cache.store(content=digest.hexdigest())
    return cache.facts["content"]


def _digest(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for a writer
        raise OSError(errno.EINVAL, "a pipe or a device; allowed: a file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def check_images(root: Path, paths: list[Path], size: int | None, memory: Memory) -> None:
    """Check that every file is an image by decoding it, with a progress bar; cached until a file changes.

    Args:
        root: the folder.
        paths: the files in it.
        size: side in pixels to which the images will be resized, which decides how large JPEGs are decoded.
        memory: of the images that are decoded at the same time.

    Raises:
        InputError: some are not, or take more memory than `memory` allows; it names and counts them.
    """
    cache = _Cache(root, paths)
    fitting = f"decoded for {size} pixels within {memory.mib} MiB"
    decoded = cache.facts.get("checked") == "yes"
    if decoded and cache.facts.get(fitting) == "yes":
        return
    from cnnbench.console import progress

    def fault(path: Path) -> str:
        return _fault(path, size or 4, memory, decoded=decoded)

    checked = progress(in_threads(fault, paths), "checking images", len(paths))
    faults = [
        f"{path.relative_to(root)} ({fault})" for path, fault in zip(paths, checked, strict=True) if fault
    ]
    if faults:
        raise InputError(
            f"data.root={root}: {len(faults)} of {len(paths)} files cannot be read as images: {_some(faults)}"
        )
    cache.store(**{"checked": "yes", fitting: "yes"})


def _fault(path: Path, size: int, memory: Memory, *, decoded: bool) -> str:
    """Return why an image file cannot be used; empty if it can.

    Args:
        path: the file.
        size, memory: see `check_images`.
        decoded: the file is known to be an image, so that its header suffices.
    """
    try:
        look(path, size, memory)
        if not decoded:
            with open_rgb(path, 4, memory):  # a JPEG is read to its end, but only decoded at a small scale
                pass
    except Unreadable as error:
        return error.reason
    return ""


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

    def store(self, **facts: str) -> None:
        self.facts |= facts
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
