"""W&B's log of one run, `run-<id>.wandb`: read it, and copy it without the rows that a server already has.

W&B's client uploads a file from the beginning and appends its rows to those on the server, so that a second
upload would duplicate every epoch. The client has no option to skip rows; `write_rest` does it instead.

Format: a header of 7 bytes, then a LevelDB log. The log consists of blocks of 32 KiB; a record is one or more
chunks of (checksum, length, kind, bytes); its bytes are a message of W&B's `wandb_internal.proto`.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE_HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32 * 1024
CHUNK_HEADER = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
"""Kinds of chunks: LevelDB's names."""


class UnreadableError(ValueError):
    """The file is damaged, or of an unknown version."""


@dataclass
class Content:
    """The content of a file, as far as an upload needs it.

    Attributes:
        entity: user or team; empty for the default.
        project: empty for the default.
        steps: of its rows.
        media: logged files, as `media/…` in the folder `files/` beside it.
    """

    entity: str = ""
    project: str = ""
    steps: list[int] = field(default_factory=list)
    media: set[str] = field(default_factory=set)


def read(path: Path) -> Content:
    """Read the content of a file.

    Raises:
        UnreadableError: it is damaged.
        OSError: it cannot be read.
    """
    content = Content()
    for _, record in _records(path.read_bytes()):
        match record.WhichOneof("record_type"):
            case "run":
                content.entity, content.project = record.run.entity, record.run.project
            case "history":
                content.steps.append(_step(record))
            case "files":
                content.media |= {file.path for file in record.files.files}
    return content


def write_rest(path: Path, target: Path, last: int) -> None:
    """Copy a file without the rows that a server already has.

    System metrics belong to an attempt, not to an epoch: they are left out if no row is new.

    Args:
        path: the file.
        target: its copy.
        last: step of the last row on the server.

    Raises:
        UnreadableError: the file is damaged.
        OSError: it cannot be read, or its copy cannot be written.
    """
    records = list(_records(path.read_bytes()))
    steps = [_step(record) for _, record in records if record.WhichOneof("record_type") == "history"]
    nothing_new = all(step <= last for step in steps)
    with target.open("wb") as file:
        file.write(FILE_HEADER)
        for data, record in records:
            kind = record.WhichOneof("record_type")
            if (kind == "history" and _step(record) <= last) or (kind == "stats" and nothing_new):
                continue
            file.write(encode_record(data, file.tell()))


def encode_record(data: bytes, offset: int) -> bytes:
    """Return a message as chunks, for a file that has `offset` bytes already."""
    encoded, kind, rest = b"", FIRST, data
    while True:
        if (room := BLOCK - (offset + len(encoded)) % BLOCK) < CHUNK_HEADER.size:
            encoded += bytes(room)
            room = BLOCK
        chunk, rest = rest[: room - CHUNK_HEADER.size], rest[room - CHUNK_HEADER.size :]
        if not rest:
            kind = FULL if kind == FIRST else LAST
        encoded += CHUNK_HEADER.pack(zlib.crc32(bytes([kind]) + chunk), len(chunk), kind) + chunk
        if not rest:
            return encoded
        kind = MIDDLE


def _records(data: bytes) -> Iterator[tuple[bytes, Any]]:
    """Yield the messages of a file, as bytes and decoded."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto.wandb_internal_pb2 import Record

    if not data.startswith(FILE_HEADER):
        raise UnreadableError("bad header")
    offset, message = len(FILE_HEADER), b""
    while offset < len(data):
        if (room := BLOCK - offset % BLOCK) < CHUNK_HEADER.size:  # zeros up to the next block
            offset += room
            continue
        if offset + CHUNK_HEADER.size > len(data):
            raise UnreadableError("incomplete record")
        checksum, length, kind = CHUNK_HEADER.unpack_from(data, offset)
        chunk = data[offset + CHUNK_HEADER.size : offset + CHUNK_HEADER.size + length]
        offset += CHUNK_HEADER.size + length
        if kind not in (FULL, FIRST, MIDDLE, LAST) or offset > len(data):
            raise UnreadableError("incomplete record")
        if checksum != zlib.crc32(bytes([kind]) + chunk):
            raise UnreadableError("wrong checksum")
        message = chunk if kind in (FULL, FIRST) else message + chunk
        if kind in (FULL, LAST):
            try:
                yield message, Record.FromString(message)
            except DecodeError:
                raise UnreadableError("a record of another version") from None


def _step(record: Any) -> int:
    """Return the step of a row."""
    for item in record.history.item:
        if item.key == "_step" or list(item.nested_key) == ["_step"]:
            return int(json.loads(item.value_json))
    return int(record.history.step.num)
