"""Image files opened ahead of their use, by threads: what decodes releases Python's lock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import torch
from torch import Tensor

from cnnbench.data.image_folder import why
from cnnbench.data.images import Images
from cnnbench.data.preprocessing import Preparation
from cnnbench.data.sampler import EpochOrder
from cnnbench.errors import InputError
from cnnbench.processes.cores import cpu_cores

PATIENCE_S = 5
"""How long an end waits for what is being decoded; what hangs, as on a dead network, is left behind."""

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
    """See `opened`. Threads of its own: a process cannot end while one of an executor still reads."""
    waiting: deque[tuple[Path, Future[Tensor | str]]] = deque()
    asked: SimpleQueue[tuple[Path, Future[Tensor | str]] | None] = SimpleQueue()

    def work() -> None:
        while (one := asked.get()) is not None:
            path, found = one
            if found.set_running_or_notify_cancel():
                try:
                    found.set_result(function(path))
                except BaseException as error:  # whoever waits for it would do so for ever
                    found.set_exception(error)

    threads = [Thread(target=work, daemon=True) for _ in range(cpu_cores())]
    for thread in threads:
        thread.start()
    try:
        for path in paths:
            waiting.append((path, Future()))
            asked.put(waiting[-1])
            if len(waiting) > ahead:
                first, found = waiting.popleft()
                yield first, found.result()
        while waiting:
            first, found = waiting.popleft()
            yield first, found.result()
    finally:
        for _, found in waiting:
            found.cancel()
        for _ in threads:
            asked.put(None)
        end = time.monotonic() + PATIENCE_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


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
