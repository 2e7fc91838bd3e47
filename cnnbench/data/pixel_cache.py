"""Decoded images in the user's cache.

An entry is a file with the pixels of all images of a data set, followed by their digest, so that a damaged
one is noticed and made again. All entries together take at most a tenth of what is free on their disk, or
theirs: those that were not used for longest are deleted for a new one.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Iterable

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from cnnbench.data.image_file import MIB
from cnnbench.data.image_folder import cache_folder
from cnnbench.run_store.files import make_folder, replacing

SHARE = 10
"""All entries together take one part in so many of the disk."""

DIGEST = 16
"""Bytes of the digest of an entry."""


class Entry:
    """Pixels of the images of a data set.

    Args:
        key: name of the entry, which follows from all that decides the pixels.
        shape: (N, C, H, W).
    """

    def __init__(self, key: str, shape: tuple[int, int, int, int]) -> None:
        self.file, self.shape = cache_folder() / "pixels" / f"{key}.uint8", shape
        self.size = math.prod(shape) + DIGEST

    def read(self) -> NDArray[np.uint8] | None:
        """Return the pixels, uint8 (N, C, H, W), mapped from the file; None if it is missing or damaged."""
        try:
            if self.file.stat().st_size != self.size:
                return None
            content = np.memmap(self.file, np.uint8, "r")
            os.utime(self.file)
        except OSError:
            return None
        pixels, digest = content[:-DIGEST], content[-DIGEST:].tobytes()
        right = hashlib.blake2b(pixels.data, digest_size=DIGEST).digest() == digest
        return pixels.reshape(self.shape) if right else None

    def read_or_make(self, images: Iterable[Tensor]) -> NDArray[np.uint8] | None:
        """Return the pixels as `read` does, written before from `images` if need be.

        Returns:
            None if there is no room for them, or the cache cannot be written to.
        """
        if (pixels := self.read()) is not None:
            return pixels
        try:
            make_folder(self.file.parent)
            with FileLock(self.file.parent / "lock"):  # others wait, instead of decoding the same
                pixels = self.read()
                return self._make(images) if pixels is None else pixels
        except OSError as error:
            _say(f"not kept for the next run in {self.file.parent} ({error.strerror or error})")
            return None

    def _make(self, images: Iterable[Tensor]) -> NDArray[np.uint8] | None:
        """Write the entry, by the one process that holds the lock."""
        for partial in self.file.parent.glob(".*"):  # of a process that was killed
            partial.unlink()
        if self.file.exists():
            _say(f"{self.file} is damaged, and made again")
            self.file.unlink()
        if not self._make_room():
            return None
        digest = hashlib.blake2b(digest_size=DIGEST)
        with replacing(self.file) as file:
            for image in images:
                content = image.numpy().tobytes()
                digest.update(content)
                file.write(content)
            file.write(digest.digest())
        _say(f"decoded, and kept for the next run: {self.size / MIB:,.1f} MiB in {self.file}")
        return self.read()

    def _make_room(self) -> bool:
        """Delete the entries that were not used for longest, until this one fits; return whether it does."""
        others = sorted(self.file.parent.glob("*.uint8"), key=lambda path: path.stat().st_mtime)
        sizes = [path.stat().st_size for path in others]
        most = (shutil.disk_usage(self.file.parent).free + sum(sizes)) // SHARE
        if self.size > most:
            needed, allowed = (f"{size / MIB:,.1f} MiB" for size in (self.size, most))
            _say(f"not kept for the next run: {needed} of {allowed} in {self.file.parent}")
            return False
        for i, path in enumerate(others):
            if sum(sizes[i:]) + self.size <= most:
                break
            path.unlink()
        return True


def _say(text: str) -> None:
    from cnnbench.console import console

    console.print(f"images: {text}", style="dim", highlight=False, markup=False, soft_wrap=True)
