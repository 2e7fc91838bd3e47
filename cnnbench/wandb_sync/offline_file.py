"""What W&B wrote of one run, `run-<id>.wandb`: read, and written once more without what a server has already.

W&B's client sends a file from its beginning, and what it sends is appended to the rows that the server has:
sent a second time, each epoch would be there twice. It has no way to leave rows out, hence this.

The file opens with 7 bytes, then comes a LevelDB log: blocks of 32 KiB; a record is one or more chunks of
checksum, length, kind and bytes; its bytes are one of the messages of W&B's `wandb_internal.proto`.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OPENING = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32 * 1024
HEAD = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class UnreadableError(ValueError):
    """The file is damaged, or of a version that is not known here."""


@dataclass
class Content:
    """What a file says, as far as an upload needs to know it.

    Attributes:
        steps: of its rows.
        media: the files that were logged, as `media/…` in `files/` beside it.
    """

    entity: str = ""
    project: str = ""
    steps: list[int] = field(default_factory=list)
    media: set[str] = field(default_factory=set)


def content(path: Path) -> Content:
    """What the file says.

    Raises:
        UnreadableError: it is damaged.
        OSError: it cannot be read.
    """
    found = Content()
    for _, record in _records(path.read_bytes()):
        match record.WhichOneof("record_type"):
            case "run":
                found.entity, found.project = record.run.entity, record.run.project
            case "history":
                found.steps.append(_step(record))
            case "files":
                found.media |= {file.path for file in record.files.files}
    return found


def write_rest(path: Path, target: Path, last: int) -> None:
    """Write a file anew without the rows up to a step, which a server has already.

    Measurements of the machine belong to an attempt, not to an epoch: without a new row, none is new.

    Raises:
        UnreadableError: it is damaged.
        OSError: it cannot be read, or the other not written.
    """
    records = list(_records(path.read_bytes()))
    rows = [_step(record) for _, record in records if record.WhichOneof("record_type") == "history"]
    nothing_new = all(step <= last for step in rows)
    with target.open("wb") as file:
        file.write(OPENING)
        for data, record in records:
            kind = record.WhichOneof("record_type")
            if (kind == "history" and _step(record) <= last) or (kind == "stats" and nothing_new):
                continue
            file.write(_chunks(data, file.tell()))


def _records(data: bytes) -> Iterator[tuple[bytes, Any]]:
    """The messages of a file, as bytes and read."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto.wandb_internal_pb2 import Record

    if not data.startswith(OPENING):
        raise UnreadableError("bad header")
    at, parts = len(OPENING), b""
    while at < len(data):
        if (room := BLOCK - at % BLOCK) < HEAD.size:  # zeros up to the next block
            at += room
            continue
        if at + HEAD.size > len(data):
            raise UnreadableError("incomplete record")
        checksum, length, kind = HEAD.unpack_from(data, at)
        chunk = data[at + HEAD.size : at + HEAD.size + length]
        at += HEAD.size + length
        if kind not in (WHOLE, FIRST, MIDDLE, LAST) or at > len(data):
            raise UnreadableError("incomplete record")
        if checksum != zlib.crc32(bytes([kind]) + chunk):
            raise UnreadableError("wrong checksum")
        parts = chunk if kind in (WHOLE, FIRST) else parts + chunk
        if kind in (WHOLE, LAST):
            try:
                yield parts, Record.FromString(parts)
            except DecodeError:
                raise UnreadableError("a record of another version") from None


def _chunks(data: bytes, at: int) -> bytes:
    """A message as it lies in a file from this place on."""
    written, kind, left = b"", FIRST, data
    while True:
        if (room := BLOCK - (at + len(written)) % BLOCK) < HEAD.size:
            written += bytes(room)
            room = BLOCK
        chunk, left = left[: room - HEAD.size], left[room - HEAD.size :]
        if not left:
            kind = WHOLE if kind == FIRST else LAST
        written += HEAD.pack(zlib.crc32(bytes([kind]) + chunk), len(chunk), kind) + chunk
        if not left:
            return written
        kind = MIDDLE


def _step(record: Any) -> int:
    """The step of a row."""
    for item in record.history.item:
        if item.key == "_step" or list(item.nested_key) == ["_step"]:
            return int(json.loads(item.value_json))
    return int(record.history.step.num)
