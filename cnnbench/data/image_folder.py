"""The content of image folders: checks of every image, the digest of all, and images that are equal.

Imports no torch: to show a finished run on an image folder, only the digest is needed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cnnbench.data.folder_scan import scan, some
from cnnbench.data.image_file import Memory, look, open_rgb, sides
from cnnbench.data.options import EVAL_CROP
from cnnbench.errors import InputError, Unreadable
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.reading import Unfit, checksum, parse_json, read

Item = TypeVar("Item")
Result = TypeVar("Result")


def cache_folder() -> Path:
    """Return the folder in the user's cache that is cnnbench's."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnbench"


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Map in threads, in order; in chunks, since every waiting item takes memory."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), 1024):
            yield from pool.map(function, items[start : start + 1024])


@dataclass(frozen=True)
class Contents:
    """The contents of all images of a folder.

    Attributes:
        digest: of their names and contents, independent of the folder's path.
        equals: groups of images with equal files, byte by byte.
        side: width and height of all of them in pixels; None if one is not square, or another size.
    """

    digest: str
    equals: list[list[Path]]
    side: int | None

    def eval_crop(self, size: int | None) -> float:
        """Return the share of the shorter side that evaluation keeps by default.

        Images that need no resizing are kept whole: enlarging them in order to cut them would lose pixels.

        Args:
            size: side in pixels of the model's input.
        """
        return 1.0 if self.side is not None and self.side == size else EVAL_CROP


def contents(root: Path, paths: list[Path] | None = None) -> Contents:
    """Return the contents of the images of a folder.

    Reading all files takes about a second per gigabyte. The result is cached with a digest of names, sizes
    and times of change: files are read again only if one of these has changed.

    Args:
        root: the folder.
        paths: the files in it, as `scan` found them; None: it is called.

    Raises:
        InputError: see `scan`; a file that cannot be read.
    """
    if paths is None:
        paths = [path for files in scan(root).values() for path in files.paths]
    cache = _Cache(root, paths)
    if not {"content", "equals", "side"} <= cache.facts.keys():
        digest, groups = hashlib.blake2b(digest_size=16), defaultdict(list)
        try:
            for path, content in zip(paths, in_threads(_digest, paths), strict=True):
                name = os.fsencode(path.relative_to(root))
                digest.update(name + b"\0" + content + b"\n")
                groups[content].append(name.hex())  # names need not be text
        except OSError as error:
            raise InputError(
                f"data.root={root}: {error.filename} cannot be read ({error.strerror})"
            ) from error
        several = [group for group in groups.values() if len(group) > 1]
        side = json.dumps(_side(paths))
        cache.store(content=digest.hexdigest(), equals=json.dumps(several), side=side)
    groups_of_names: list[list[str]] = json.loads(cache.facts["equals"])
    equals = [[root / os.fsdecode(bytes.fromhex(name)) for name in group] for group in groups_of_names]
    return Contents(cache.facts["content"], equals, json.loads(cache.facts["side"]))


def _side(paths: list[Path]) -> int | None:
    """Return the side of images that are all square and equally large; else None, once one is not."""
    first = sides(paths[0])
    if first is None or first[0] != first[1]:
        return None
    return first[0] if all(size == first for size in in_threads(sides, paths)) else None


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
            f"data.root={root}: {len(faults)} of {len(paths)} files cannot be read as images: {some(faults)}"
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
        name = hashlib.blake2b(bytes(root.resolve()), digest_size=12).hexdigest()
        self.file = cache_folder() / "folders" / f"{name}.json"
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
