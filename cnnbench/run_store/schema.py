"""Schema of the small files of a run: tables of keys, each with the values that it may have.

A key that no table knows, as of a later version of cnnbench, may have any plain value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench.run_store.kinds import (
    CLASSES,
    COUNT,
    DIGEST,
    DISTANCE,
    FINITE,
    FLAG,
    FROM_1,
    MEAN,
    MEASURED,
    MEASURED_SHARE,
    NUMBER,
    PLAIN,
    SCALAR,
    SHARE,
    SIZE,
    TEXT,
    TEXTS,
    TIME,
    Table,
    mapping,
    one_of,
    or_null,
    records,
    shown,
)

STATES = ("running", "finished", "failed", "diverged", "interrupted", "pruned")
"""States that status.json may record."""

LAST_EPOCH = "last/epoch"
"""Summary key of the epoch that was tested, if there were no val images to choose one by."""

RESULTS = {
    "train": ({"test/acc", "best/val_acc"}, {"test/acc", LAST_EPOCH}),
    "bench": ({"time/load_s"}, {"parity/worst"}, {"tune/layout"}),
}
"""Sets of summary keys by verb, of which a finished run has one."""

# --- status.json ------------------------------------------------------------------------------------------

DEVICE = Table(
    {
        "accelerator|precision|memory_format|name|model|runtime": TEXT,
        "threads|devices|nodes": FROM_1,
        "compile": FLAG,
    },
    required=(),
    other=SCALAR,
)

STATUS = Table(
    {
        "format|pid|repeats": COUNT,
        "verb": one_of(*RESULTS),
        "state": one_of(*STATES),
        "host": TEXT,
        "device": mapping(DEVICE),
        "versions|code": mapping(Table({".*": TEXT}, (), TEXT)),
        "git": or_null(TEXT),
        "attempts": records(Table({"started|ended": TIME, "state": one_of(*STATES)}, (), SCALAR)),
        "error": mapping(Table({}, ("type", "message"), TEXT)),
        "files": mapping(Table({}, (), or_null(DIGEST))),
        "checkpoints": mapping(Table({}, (), DIGEST)),
        "checksum": DIGEST,
    },
    required=("state", "attempts", "device"),
    other=PLAIN,
)

# --- summary.json -----------------------------------------------------------------------------------------

LOSS = r"(?:.*[/_])?loss"
MEASUREMENT = (
    r"(?:time|memory|noise|tune|roofline)/(?:.*(?:_s|_ms|_mb|flops|spread|_cpu|speedup|byte)|share_of_\w+)"
)
ACCURACY = r"(?:.*[/_])?(?:acc|top\d|f1_macro)"
CALIBRATION = r"(?:.*[/_])?ece"

SUMMARY = Table(
    {
        "params|macs|(?:best|last)/epoch|data/(?:train|val|test|dropped)|weights/loaded": COUNT,
        r"epochs|(?:.*[/_])?batch": FROM_1,
        "data/classes": CLASSES,
        "data/(?:split|images|left_out|doubled)": TEXT,
        "init|weights/left|stopped|tune/layout|roofline/bound": TEXT,
        f"data/(?:chance|eval_crop)|{ACCURACY}": SHARE,
        "best/val_loss": FINITE,
        LOSS: NUMBER,  # of the test set, on which a model may fail that was good on val
        CALIBRATION: MEASURED_SHARE,
        r"translation/(?:acc|consistency)_\d+": SHARE,
        "field/(?:start|end)": SIZE,
        "field/layer": TEXT,
        "parity/.*": DISTANCE,  # infinite if a value is not finite
        MEASUREMENT: SIZE,
    },
    required=(),
    other=SCALAR,
)


def summary_problem(summary: Mapping[str, Any], verb: str, *, finished: bool) -> str:
    """Return what is wrong with a summary; empty if nothing is.

    Args:
        summary: content of summary.json.
        verb: `train` or `bench`.
        finished: whether it belongs to a finished run, and must have its results.
    """
    if problem := SUMMARY.problem(summary):
        return problem
    for key in ("best/epoch", LAST_EPOCH):
        epoch, epochs = summary.get(key), summary.get("epochs")
        if epoch is not None and epochs is not None and epoch >= epochs:
            return f"{key} is {epoch}; allowed: 0 to {epochs - 1}, as it has {epochs} epochs"
    if finished and not any(keys <= summary.keys() for keys in RESULTS[verb]):
        missing = sorted(RESULTS[verb][0] - summary.keys())
        return f"has no {' and no '.join(missing)}"
    return ""


# --- metrics.csv ------------------------------------------------------------------------------------------

EPOCH = Table(
    {
        "epoch|step|time/images": COUNT,
        "train/acc": MEAN,
        ACCURACY: SHARE,
        LOSS: NUMBER,  # not finite in a run that diverged
        CALIBRATION: MEASURED_SHARE,
        "lr": FINITE,
        "time/.*": SIZE,
    },
    required=("epoch",),
    other=NUMBER,
)

BATCH = Table({"batch": FROM_1}, required=("batch",), other=MEASURED)


def rows_problem(rows: Sequence[Mapping[str, float]], verb: str) -> str:
    """Return what is wrong with the rows of metrics.csv: epochs in order, or batch sizes of a measurement."""
    if not rows:
        return ""
    measured = verb == "bench" and "batch" in rows[0]
    table = BATCH if measured else EPOCH
    if problem := table.problem(rows[0]):
        return problem
    for key in rows[0]:
        kind = table.kind(key)
        for number, row in enumerate(rows):
            if not kind.fits(row[key]):
                return f"row {number}: {key} is {shown(row[key])}; allowed: {kind.said}"
    for number, row in enumerate(rows):
        if not measured and row["epoch"] != number:
            return f"row {number}: epoch is {row['epoch']}; allowed: {number}"
    return ""


# --- config.yaml and identity.json ------------------------------------------------------------------------

SECTION = mapping(Table({"name": TEXT, "_target_": or_null(TEXT)}, (), PLAIN))
NAMED = mapping(Table({"name": TEXT, "_target_": or_null(TEXT)}, ("name",), PLAIN))

CHOICE = Table(
    {
        "arch|data": NAMED,
        "ops|optimizer|scheduler|trainer|device|logger": SECTION,
        "seed": COUNT,
        "name|output_dir|backend|verb": TEXT,
        "select|command": TEXTS,
        "of": or_null(TEXT),
        "parity|tune|trust_code": FLAG,
    },
    required=("arch", "data"),
    other=PLAIN,
)
"""Settings of a run, as far as readers use them without checking them against the schema of the settings."""

IDENTITY = Table({"format": COUNT, "choice": mapping(CHOICE)}, required=("choice",), other=PLAIN)
