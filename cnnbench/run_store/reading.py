"""Files that somebody else may have written, read with bounded effort; for YAML see `run_store.plain_yaml`.

Nothing here waits, as for a pipe, or reads more than a limit.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LARGEST = 2**22
"""Bytes of a file of JSON or YAML; a larger one is not of cnnbench."""

LARGEST_TABLE = 2**26
"""Bytes of metrics.csv: some 300,000 epochs."""

LONGEST_URL = 2**12
"""Bytes of the address of a run at W&B."""


class Unfit(ValueError):  # noqa: N818 - says of what
    """A file that is not what it should be. The message follows the file's name, as in `is not JSON`."""


def read(path: Path, largest: int = LARGEST) -> bytes:
    """Return the content of a regular file.

    Raises:
        FileNotFoundError: there is nothing of this name.
        Unfit: it is not a file, it is too large, or it cannot be read.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise Unfit("is not a file")
        if about.st_size > largest:
            raise Unfit(f"is larger than {largest >> 20} MiB")
        # It may have been replaced since, by a pipe for which opening would wait.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            return file.read(largest)
    except NotADirectoryError:
        raise FileNotFoundError(path) from None
    except FileNotFoundError:
        if path.is_symlink():
            raise Unfit("is a link to nothing") from None
        raise
    except OSError as error:
        raise Unfit(f"cannot be read ({error.strerror})") from None


def decoded(data: bytes) -> str:
    """Decode UTF-8.

    Raises:
        Unfit: it is something else.
    """
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unfit("is not text") from None


def parse_json(data: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        Unfit: it is something else.
    """
    try:
        content = json.loads(decoded(data))
    except Unfit:
        raise
    except (ValueError, RecursionError):  # also of a number with more than 4,300 digits
        raise Unfit("is not JSON, or is cut off") from None
    if not isinstance(content, dict):
        raise Unfit("is not a JSON object")
    return content


def checksum(content: Mapping[str, Any]) -> str:
    """Return the digest of a JSON object without its own entry `checksum`."""
    kept = {key: value for key, value in content.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def parse_rows(data: bytes) -> list[dict[str, float]]:
    """Read a table of numbers with a header.

    Raises:
        Unfit: it is something else; the message says how.
    """
    content = decoded(data)
    if content and not content.endswith("\n"):
        raise Unfit("is cut off")
    try:
        lines = [line for line in csv.reader(io.StringIO(content, newline="")) if line]
    except csv.Error as error:
        raise Unfit(f"is not a table ({error})") from None
    headers = lines.pop(0) if lines else []
    if any(len(line) != len(headers) for line in lines):
        raise Unfit("has rows of different lengths")
    try:
        return [dict(zip(headers, map(_number, line), strict=True)) for line in lines]
    except ValueError as error:
        raise Unfit(str(error)) from None


def _number(cell: str) -> float:
    """Read a cell; integers stay integers, so that they are written back unchanged."""
    return int(cell) if cell.isdigit() else float(cell)
