"""Seals of checkpoints: a digest inside the file, by which any damaged byte is noticed. Needs no torch.

A checkpoint is a zip archive. The seal is the comment of the archive, its last 80 bytes: the SHA-256 of all
bytes before it. torch reads a sealed file as any other, and verifies nothing by itself.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO

MAGIC = b"cnnbench-sha256:"
LENGTH = len(MAGIC) + 64
"""Bytes of a seal."""

END = b"PK\x05\x06"
"""Beginning of the 22 bytes at the end of an archive, of which the last two are the length of the comment."""

CHUNK = 2**20

EXPANSION = 4
"""Largest ratio of the contents of an archive to its size; torch does not compress."""


class Damaged(ValueError):  # noqa: N818 - a finding about a file
    """File whose content is not what was written."""


def seal(file: BinaryIO) -> None:
    """Seal an archive that was written to a file open for reading and writing."""
    file.seek(-2, os.SEEK_END)  # the length of the comment ends an archive that has none
    file.write(LENGTH.to_bytes(2, "little"))
    file.write(MAGIC + _digest(file, file.tell()))


def seal_of(path: Path) -> str:
    """Return the digest in the seal of a file, without verifying it; empty if there is none."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LENGTH))
            comment = file.read(LENGTH)
    except OSError:
        return ""
    digest = comment.removeprefix(MAGIC)
    return digest.decode("ascii", "replace") if digest != comment else ""


def verify(path: Path) -> bool:
    """Check that a file is as it was written, by its seal, or else by the CRC-32 of its archive's members.

    Returns:
        False if the file has neither, and so cannot be checked.

    Raises:
        Damaged: it is not.
        OSError: it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device might never end
        raise Damaged(f"{path}: is not a file")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        content = max(0, size - LENGTH)
        file.seek(content)
        comment = file.read()
        if comment.startswith(MAGIC):
            if comment.removeprefix(MAGIC) != _digest(file, content):
                raise Damaged(f"{path}: is damaged (it does not match its checksum)")
            return True
        file.seek(0)
        if file.read(2) != b"PK":
            return False
        if problem := _problem(file, size):
            raise Damaged(f"{path}: is damaged ({problem})")
    return True


def _problem(file: BinaryIO, size: int) -> str:
    """Return what is wrong with an archive that has no seal; an empty text if nothing is."""
    file.seek(max(0, size - LENGTH - len(END) - 18))
    _, found, end = file.read().rpartition(END)
    if found and end[16:18] == LENGTH.to_bytes(2, "little"):  # of a comment that is not a seal, or is cut off
        return "its checksum is unreadable"
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(info.file_size for info in archive.infolist()) > EXPANSION * size:
                return "it expands to many times its size"
            broken = archive.testzip()
    except Exception as error:  # of zipfile, struct, zlib or text decoding
        return str(error) or type(error).__name__
    return f"the CRC-32 of {broken} does not match" if broken else ""


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the hex digest of the first `size` bytes of a file, and leave the file positioned after them."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (chunk := file.read(min(CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest().encode()
