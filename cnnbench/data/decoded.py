"""Image files decoded to arrays, once for all runs that use the same files in the same way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import PIL
import torch
import torchvision
from PIL import features
from torch import Tensor

from cnnbench.data.image_folder import contents, in_threads
from cnnbench.data.pixel_cache import Entry
from cnnbench.errors import InputError


@dataclass(frozen=True)
class Decoder:
    """Decoder of image files to pixels of one shape.

    Attributes:
        pixels: decodes a file to uint8 (C, H, W); called in threads.
        shape: (C, H, W).
        about: how it decodes and resizes, in words.
    """

    pixels: Callable[[Path], Tensor]
    shape: tuple[int, int, int]
    about: str


def decode_parts(
    root: Path, paths: list[Path], parts: Sequence[list[Path]], decoder: Decoder
) -> list[Tensor]:
    """Decode the parts of a data set, or take them from the cache; see `cnnbench.data.pixel_cache`.

    The cache holds whole data sets: what a few images of one were decoded to is not kept.

    Args:
        root: folder of the data set.
        paths: all its files.
        parts: those of each part.
        decoder: of the files.

    Returns:
        uint8 (N, C, H, W) for each part.

    Raises:
        Unreadable: see `cnnbench.data.image_file.open_rgb`.
        InputError: a file that cannot be read, or has changed meanwhile.
    """
    content = contents(root, paths).digest

    def checked() -> Generator[Tensor]:
        yield from _decoded(paths, decoder)
        if contents(root, paths).digest != content:
            raise InputError(f"data.root={root}: files have changed while they were decoded")

    whole = sum(map(len, parts)) == len(paths)
    decides = f"{content}, {decoder.shape}, {decoder.about}, {_libraries()}"
    key = hashlib.blake2b(decides.encode(), digest_size=12).hexdigest()
    entry = Entry(key, (len(paths), *decoder.shape))
    with closing(checked()) as images:
        array = entry.read_or_make(images) if whole else entry.read()
    if array is None:
        return [decode_all(part, decoder) for part in parts]
    position = {path: i for i, path in enumerate(paths)}
    return [torch.from_numpy(array[[position[path] for path in part]]) for part in parts]


def decode_all(paths: list[Path], decoder: Decoder) -> Tensor:
    """Decode files to one uint8 tensor (N, C, H, W), with a progress bar.

    Raises:
        Unreadable: see `cnnbench.data.image_file.open_rgb`.
    """
    decoded = torch.empty((len(paths), *decoder.shape), dtype=torch.uint8)
    for i, image in enumerate(_decoded(paths, decoder)):
        decoded[i] = image
    return decoded


def _decoded(paths: list[Path], decoder: Decoder) -> Iterator[Tensor]:
    """Yield the pixels of files."""
    from cnnbench.console import progress

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # files are decoded in parallel already: more threads are slower by far
    try:
        yield from progress(in_threads(decoder.pixels, paths), "decoding images", len(paths))
    finally:
        torch.set_num_threads(threads)


def _libraries() -> str:
    """Return the versions of all code that decides pixels, and the instructions that it computes with."""
    ours = hashlib.blake2b(digest_size=8)
    for name in ("image_file", "transforms", "preprocessing"):
        ours.update(Path(__file__).with_name(f"{name}.py").read_bytes())
    jpg, instructions = features.version_codec("jpg"), torch.backends.cpu.get_cpu_capability()
    return (
        f"Pillow {PIL.__version__} {jpg}, torch {torch.__version__} {instructions}, "
        f"torchvision {torchvision.__version__}, cnnbench {ours.hexdigest()}"
    )
