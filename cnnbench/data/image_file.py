"""One image file: what counts as one, why it cannot be read, and its decoding within a limit of memory.

Imports no torch; see `cnnbench.data.image_folder`.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.data.options import DECODE_MIB
from cnnbench.errors import Unreadable

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".avif", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "AVIF", "GIF", "TIFF", "PPM")
"""Formats of Pillow, recognised by content; of others that it knows, EPS would start Ghostscript."""

PIXEL = 16
"""Most bytes that a pixel takes between a file and the model's input.

Pillow holds up to 4, and 4 more while it converts or rotates; torch copies 3, and resizes in float32 on
processors without AVX2. tests/data/test_image_file.py measures all kinds of files.
"""

MIB = 2**20

WORDS = 48 * MIB
"""Bytes that Pillow's decoder of values as text takes at a time, whatever the size of the image."""

WHITE_OR_BLACK_IS_0 = 262
"""TIFF's tag PhotometricInterpretation; 0: of a grey image the value 0 is white."""

LARGE = 32 * MIB
"""Bytes of an image from which on its memory is given back to the system; it takes a millisecond."""

M_ARENA_MAX = -8
"""Constant of malloc.h."""

_PAUSE_S = 0.005


class Memory:
    """Memory of the images that are being decoded at the same time, by all threads that share this object.

    Args:
        mib: most MiB of all of them together.
        setting: name of this limit for error messages.
        shared: data workers, which are processes, share it too.
    """

    def __init__(
        self, mib: int = DECODE_MIB, setting: str = "data.decode_mib", *, shared: bool = False
    ) -> None:
        _one_heap()
        self.mib, self.setting = mib, setting
        # No condition: a worker that is killed while it waits would block those that wake it.
        self._lock = multiprocessing.Lock() if shared else threading.Lock()
        self._held = multiprocessing.RawValue("q", 0) if shared else ctypes.c_longlong(0)

    def check(self, size: int, what: str) -> None:
        """Check that `size` bytes can be held at all.

        Raises:
            ValueError: they cannot; `what` says what takes them.
        """
        if size > self.mib * MIB:
            needed = -(-size // MIB)
            raise ValueError(f"{what} can take {needed} MiB to decode; allowed: {self.setting}={self.mib}")

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Hold `size` bytes, once the others leave room for them."""
        while not self._add(size):
            time.sleep(_PAUSE_S)
        try:
            yield
        finally:
            give_back(size)
            with self._lock:
                self._held.value -= size

    def _add(self, size: int) -> bool:
        with self._lock:
            fits: bool = self._held.value + size <= self.mib * MIB
            if fits:
                self._held.value += size
            return fits


def give_back(size: int) -> None:
    """Return memory that was freed to the system, if it was much; glibc would keep it for later."""
    if size >= LARGE:
        with suppress(AttributeError, OSError, TypeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _one_heap() -> None:
    """Let new threads share a heap (of glibc): what their own ones keep is not returned to the system."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def look(path: Path, size: int, memory: Memory) -> None:
    """Read only the header of an image file.

    Raises:
        Unreadable: see `open_rgb`.
    """
    with _naming(path), _opened(path, size, memory):
        pass


def sides(path: Path) -> tuple[int, int] | None:
    """Return width and height by the header of an image file, as stored; None if it cannot be read."""
    from PIL import Image

    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return None
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except Exception:  # Pillow's formats raise many kinds
        return None


def stamp(path: Path) -> list[int]:
    """Return the size of a file and the time of its last change (ns); zeros if it cannot be read."""
    try:
        about = path.stat()
    except OSError:
        return [0, 0]
    return [about.st_size, about.st_mtime_ns]


@contextmanager
def open_rgb(path: Path, size: int, memory: Memory) -> Iterator[Image.Image]:
    """Read an image file as 8-bit RGB, rotated upright; `memory` is held until the caller is done with it.

    Large JPEGs are decoded at a reduced scale of 2 x `size` or more pixels a side.

    Raises:
        Unreadable: the file is no image, or a broken one, or takes more memory than `memory` allows.
    """
    with ExitStack() as stack:
        with _naming(path):
            image, needed = stack.enter_context(_opened(path, size, memory))
            stack.enter_context(memory.hold(needed))
            stack.callback(image.close)
            rgb = _rgb(image)
            stack.callback(rgb.close)
        yield rgb


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise `Unreadable`, which names the file, for any error."""
    try:
        yield
    except Exception as error:  # Pillow's formats raise many kinds
        raise Unreadable(path, _why(path, error)) from error


@contextmanager
def _opened(path: Path, size: int, memory: Memory) -> Iterator[tuple[Image.Image, int]]:
    """Open an image file, and yield it with the most bytes that decoding it takes, by its header."""
    from PIL import Image

    about = path.stat()
    if not stat.S_ISREG(about.st_mode):  # opening a pipe would wait for a writer
        raise ValueError("a folder, a pipe or a device; allowed: a file")
    memory.check(about.st_size, f"{about.st_size:,} bytes")  # Pillow reads metadata as a whole
    with Image.open(path, formats=FORMATS) as image:
        full = image.size
        image.draft("RGB", (2 * size, 2 * size))
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
            raise ValueError("pixels of 32 bits; allowed: 8 or 16")
        needed = _needed(image, full) + about.st_size
        memory.check(needed, f"{full[0]} x {full[1]} pixels")
        yield image, needed


def _needed(image: Image.Image, full: tuple[int, int]) -> int:
    """Return the most bytes that decoding takes.

    Args:
        image: the file, whose header has been read; a JPEG with its reduced size.
        full: width and height before that.
    """
    area = image.width * image.height
    needed = PIXEL * area
    if image.info.get("progressive"):  # libjpeg keeps the coefficients of all pixels
        needed += 2 * 4 * full[0] * full[1]
    elif image.format == "WEBP":  # two canvases
        needed += 8 * area
    elif image.format == "AVIF":  # planes of brightness and colour
        needed += 4 * area
    elif image.format == "PPM" and image.tile[0][0] != "raw":  # type: ignore[attr-defined]
        needed += 8 * area + WORDS  # values as text, of which Pillow splits a block at a time
    elif image.format == "TIFF":  # a tile may be larger than the image
        tile = [side for key in (322, 323) if isinstance(side := image.tag_v2.get(key), int)]  # type: ignore[attr-defined]
        if (pixels := math.prod(tile)) > area:
            needed += 8 * pixels
    return needed


def _rgb(image: Image.Image) -> Image.Image:
    """Decode an image, and return it upright and in RGB."""
    import numpy as np
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        # 16 bits: Pillow would clip the values at 255, which leaves a white image
        values = (np.asarray(image) >> 8).astype(np.uint8)
        if image.format == "TIFF" and image.tag_v2.get(WHITE_OR_BLACK_IS_0) == 0:  # type: ignore[attr-defined]
            values = 255 - values  # as Pillow does with 8 bits
        eight = Image.fromarray(values)
        image.close()  # its pixels are not needed any more
        image = eight
    image.info.pop("transparency", None)  # ignored here, and Pillow would warn of some kinds
    converted = image.convert("RGB")
    image.close()
    return converted


def _why(path: Path, error: Exception) -> str:
    """Return in a few words why opening an image file raised `error`."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        with suppress(OSError):  # it may be gone by now
            return "empty file" if path.stat().st_size == 0 else "not an image"
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(message.split()) or type(error).__name__
