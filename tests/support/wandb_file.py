"""Reader of W&B's offline logs: a LevelDB log (crc, length, kind, bytes; in blocks) of protobuf records.

Independent of `wandb_sync.offline_file`, which is under test.
"""

import json
import struct
from dataclasses import dataclass, field

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32 * 1024
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class WandbFile:
    """Content of one run's log."""

    id: str = ""
    group: str = ""
    job_type: str = ""
    tags: list = field(default_factory=list)
    config: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)  # name -> its `define_metric` record
    exit_code: int | None = None  # None: the run was never finished


def records(path):
    """Yield a file's records in order; stop at one that a killed process left incomplete."""
    data, at, chunks = path.read_bytes(), 7, []  # after a header of 7 bytes
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:  # no room for a header: zeros up to the next block
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if kind not in (FULL, FIRST, MIDDLE, LAST) or at + 7 + length > len(data):
            return
        chunks.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (FULL, LAST):
            yield Record.FromString(b"".join(chunks))
            chunks = []


def read(folder):
    """Read the run in one of W&B's folders (`offline-run-…`)."""
    run = WandbFile()
    (path,) = folder.glob("*.wandb")
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                message = record.run
                run.id, run.group, run.job_type = message.run_id, message.run_group, message.job_type
                run.tags = list(message.tags)
                update(run.config, message.config.update)
            case "config":
                update(run.config, record.config.update)
            case "history":
                run.history.append({})
                update(run.history[-1], record.history.item)
            case "summary":
                update(run.summary, record.summary.update)
            case "metric":
                run.metrics[record.metric.name or record.metric.glob_name] = record.metric
            case "exit":
                run.exit_code = record.exit.exit_code
    return run


def update(target, items):
    """Set JSON values by their keys, which may be nested."""
    for item in items:
        *path, last = item.nested_key or [item.key]
        inner = target
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = json.loads(item.value_json)
