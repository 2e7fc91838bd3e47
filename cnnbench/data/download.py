"""Downloads by torchvision, and what is said where they fail."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock


class DownloadError(Exception):
    """What is missing cannot be had."""


_downloads = ContextVar("_downloads", default=True)


@contextmanager
def without_download() -> Iterator[None]:
    """Within it, what is missing is an error: not everything is worth gigabytes from the network."""
    token = _downloads.set(False)
    try:
        yield
    finally:
        _downloads.reset(token)


def fetch(dataset: Callable[..., Any], root: Path, **options: Any) -> Any:
    """A torchvision data set: from disk if it is there, else downloaded first."""
    lock = root / f".{dataset.__name__}.lock"
    if not lock.exists():  # if it does, another process is unpacking what would be read here
        try:
            return dataset(root, **options)
        except RuntimeError as error:  # torchvision's word for "not there, or not what its checksum says"
            if "not found" not in str(error):
                raise
    if not _downloads.get():
        raise DownloadError("nothing is downloaded for this")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision sets none: a dead network would hang for ever
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            return dataset(root, download=True, **options)
    except Exception as error:  # of the network, of archives, and torchvision's own
        raise DownloadError(sentence(error)) from error
    finally:
        socket.setdefaulttimeout(before)
        with suppress(OSError):
            lock.unlink()


def sentence(error: Exception) -> str:
    """What an error says, on one line, without torchvision's advice to those who call it themselves."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(" You can use download=True")[0].removesuffix(".")
