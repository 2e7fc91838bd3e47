"""Downloads by torchvision, and the errors when they fail."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock
from torchvision import datasets as tv
from torchvision.datasets.utils import download_and_extract_archive


class DownloadError(Exception):
    """Missing files cannot be downloaded."""


_refused = ContextVar("_refused", default="")
"""Why nothing is downloaded; empty if missing files are."""


@contextmanager
def without_download(reason: str = "downloads are disabled here") -> Iterator[None]:
    """Raise `DownloadError` with a reason for missing files, instead of downloading gigabytes."""
    token = _refused.set(reason)
    try:
        yield
    finally:
        _refused.reset(token)


def fetch(dataset: Callable[..., Any], root: Path, **options: Any) -> Any:
    """Read a torchvision data set from disk, downloading it first if it is missing.

    Args:
        dataset: a class of `torchvision.datasets`.
        root: folder of the data set.
        options: further arguments of the class.

    Raises:
        DownloadError: it is missing and cannot be downloaded.
    """
    lock = root / f".{dataset.__name__}.lock"
    if not lock.exists():  # if it does, another process is unpacking these files
        try:
            return dataset(root, **options)
        except RuntimeError as error:  # torchvision's for missing files and checksums that differ
            if "not found" not in str(error):
                raise
    if reason := _refused.get():
        raise DownloadError(reason)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # torchvision sets none, and a dead network would hang for ever
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            return dataset(root, download=True, **options)
    except Exception as error:  # of the network, of archives, of torchvision
        raise DownloadError(sentence(error)) from error
    finally:
        socket.setdefaulttimeout(before)
        with suppress(OSError):
            lock.unlink()
        if made:
            _remove_empty([*sorted(root.rglob("*"), reverse=True), *made])


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove those folders that are empty, as after a download that failed; deeper ones come first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


class STL10(tv.STL10):  # type: ignore[misc]
    """STL-10 without its unlabelled images, 2.6 GB whose checksum torchvision would compute each time."""

    train_list = tv.STL10.train_list[:2]


class Imagenette(tv.Imagenette):  # type: ignore[misc]
    """Imagenette, unpacked aside and then moved: torchvision takes its folder for complete once it exists."""

    def _download(self) -> None:
        if self._check_exists():
            return
        aside = Path(self.root) / ".imagenette.partial"
        shutil.rmtree(aside, ignore_errors=True)
        download_and_extract_archive(self._url, self.root, aside, md5=self._md5)
        (aside / self._size_root.name).rename(self._size_root)
        aside.rmdir()


def sentence(error: Exception) -> str:
    """Return an error's message on one line, without torchvision's advice to its callers."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(" You can use download=True")[0].removesuffix(".")
