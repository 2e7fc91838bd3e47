"""Image files decoded ahead of their use by threads; decoders release Python's lock."""

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

from cnnbench.data.image_file import MIB, Memory
from cnnbench.data.images import Images
from cnnbench.data.preprocessing import Preparation
from cnnbench.data.sampler import EpochOrder
from cnnbench.errors import InputError, Unreadable
from cnnbench.processes.cores import cpu_cores

PATIENCE_S = 5
"""Seconds to wait at the end for files being decoded; threads that hang, as on a dead network, are left."""

Opened = tuple[Path, Tensor | str]
"""File and its pixels, uint8 (colours, size, size), or the reason why it cannot be read."""


def opened(prepared: Preparation, paths: Iterable[Path], ahead: int, memory: Memory) -> Iterator[Opened]:
    """Yield the files in their order.

    Args:
        prepared: the preprocessing.
        paths: the files.
        ahead: how many of them, at most, wait in memory.
        memory: of those that are being decoded, and of those that wait.
    """

    def pixels(path: Path) -> Tensor | str:
        try:
            return prepared.open(path, memory)
        except Unreadable as error:
            return error.reason

    room = memory.mib * MIB // (prepared.colours * prepared.size**2)
    yield from _ahead(pixels, paths, min(ahead, room))


def _ahead(function: Callable[[Path], Tensor | str], paths: Iterable[Path], ahead: int) -> Iterator[Opened]:
    """Yield `function` of each file; see `opened`.

    The threads are not an executor's: a process cannot exit while one of those still reads.
    """
    waiting: deque[tuple[Path, Future[Tensor | str]]] = deque()
    queue: SimpleQueue[tuple[Path, Future[Tensor | str]] | None] = SimpleQueue()

    def work() -> None:
        while (task := queue.get()) is not None:
            path, result = task
            if result.set_running_or_notify_cancel():
                try:
                    result.set_result(function(path))
                except BaseException as error:  # or the consumer would wait for ever
                    result.set_exception(error)

    threads = [Thread(target=work, daemon=True) for _ in range(cpu_cores())]
    for thread in threads:
        thread.start()
    try:
        for path in paths:
            waiting.append((path, Future()))
            queue.put(waiting[-1])
            if len(waiting) > ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        for _, result in waiting:
            result.cancel()
        for _ in threads:
            queue.put(None)
        end = time.monotonic() + PATIENCE_S
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


def labelled(
    prepared: Preparation, images: Images, batch_size: int, memory: Memory
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of a data set as in evaluation: uint8 (N, colours, size, size), int64 (N,).

    Raises:
        InputError: a file that cannot be read (any more).
    """
    labels = torch.from_numpy(images.labels)
    batches = [spec.indices for spec in EpochOrder(len(images.labels), batch_size)]
    if isinstance(images.pixels, Tensor):
        for indices in batches:
            yield prepared.fit(images.pixels[indices]), labels[indices]
        return
    files = opened(prepared, images.pixels, batch_size, memory)
    for indices in batches:
        decoded = []
        for path, pixels in (next(files) for _ in indices):
            if isinstance(pixels, str):
                raise InputError(f"{path}: {pixels}")
            decoded.append(pixels)
        yield torch.stack(decoded), labels[indices]
