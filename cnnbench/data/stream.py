"""Image files opened ahead of their use, by threads: what decodes releases Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from cnnbench.data.batches import EpochOrder
from cnnbench.data.folder import why
from cnnbench.data.prepare import Preparation
from cnnbench.data.sets import Images
from cnnbench.errors import InputError
from cnnbench.process import cpu_cores

Opened = tuple[Path, Tensor | str]
"""A file and its pixels, uint8 (colours, size, size), or what is wrong with it."""


def opened(prepared: Preparation, paths: Iterable[Path], ahead: int) -> Iterator[Opened]:
    """The files in the order given; no more than `ahead` of them wait in memory."""

    def pixels(path: Path) -> Tensor | str:
        try:
            return prepared.open(path)
        except Exception as error:  # Pillow's formats raise what they like
            return why(path, error)

    yield from _ahead(pixels, paths, ahead)


def _ahead(function: Callable[[Path], Tensor | str], paths: Iterable[Path], ahead: int) -> Iterator[Opened]:
    waiting: deque[tuple[Path, Future[Tensor | str]]] = deque()
    pool = ThreadPoolExecutor(cpu_cores())
    try:
        for path in paths:
            waiting.append((path, pool.submit(function, path)))
            if len(waiting) > ahead:
                first, found = waiting.popleft()
                yield first, found.result()
        while waiting:
            first, found = waiting.popleft()
            yield first, found.result()
    finally:
        pool.shutdown(cancel_futures=True)


def labelled(prepared: Preparation, images: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a set as training evaluates it: uint8 (N, colours, size, size), int64 (N,).

    Raises:
        InputError: a file that cannot be read (any more).
    """
    labels = torch.from_numpy(images.labels)
    places = [place.indices for place in EpochOrder(len(images.labels), batch_size)]
    if isinstance(images.pixels, Tensor):
        for indices in places:
            yield prepared.fit(images.pixels[indices]), labels[indices]
        return
    files = opened(prepared, images.pixels, batch_size)
    for indices in places:
        found = []
        for path, pixels in (next(files) for _ in indices):
            if isinstance(pixels, str):
                raise InputError(f"{path}: {pixels}")
            found.append(pixels)
        yield torch.stack(found), labels[indices]
