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
from pathlib import Path
from typing import TypeVar

from cnnbench.data.folder_scan import scan, some
from cnnbench.data.image_file import Memory, look, open_rgb
from cnnbench.errors import InputError, Unreadable
from cnnbench.run_store.files import write_atomic
from cnnbench.run_store.reading import Unfit, checksum, parse_json, read

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    return _contents(root)["content"]


def equals(root: Path) -> list[list[Path]]:
    """Return the groups of images below `root` with equal files, byte by byte; cached like `fingerprint`.

    Raises:
        InputError: see `fingerprint`.
    """
    groups: list[list[str]] = json.loads(_contents(root)["equals"])
    return [[root / os.fsdecode(bytes.fromhex(name)) for name in group] for group in groups]


def _contents(root: Path) -> dict[str, str]:
    """Return what the contents of all images below `root` give, with the keys `content` and `equals`."""
    paths = [path for files in scan(root).values() for path in files.paths]
    cache = _Cache(root, paths)
    if not {"content", "equals"} <= cache.facts.keys():
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
        cache.store(content=digest.hexdigest(), equals=json.dumps(several))
    return cache.facts


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
