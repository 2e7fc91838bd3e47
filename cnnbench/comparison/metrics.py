"""The metrics in a run's summary: label, unit, which direction is better, and how values are formatted."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from cnnbench import console
from cnnbench.errors import InputError, NotThere, suggest

VAL = "best/val_acc"
DEFAULT = "test/acc"
LATENCY = "time/latency_p50_ms"


@dataclass(frozen=True)
class Figure:
    """A metric of a run.

    Attributes:
        key: its key in summary.json.
        label: its name in tables and charts.
        higher: whether higher is better.
        share: whether it is a number between 0 and 1, shown in percent; its differences are in points.
        shown: formats a value for a table cell.
    """

    key: str
    label: str
    higher: bool
    share: bool
    shown: Callable[[Any], str]

    @property
    def scale(self) -> float:
        """The factor from a stored to a displayed value."""
        return 100.0 if self.share else 1.0

    @property
    def unit(self) -> str:
        """The unit of a displayed value."""
        return "%" if self.share else self._seconds

    @property
    def ratio(self) -> bool:
        """True if values are compared by their ratio: times, speeds and sizes."""
        base = self.key.partition(" (")[0]
        sizes = base.startswith(("time/", "memory/")) or base in SIZES
        return sizes and not base.rpartition("/")[2].startswith("share_of")

    @property
    def null(self) -> float:
        """The effect of no change: the ratio, or the difference, of two equal values."""
        return 1.0 if self.ratio else 0.0

    @property
    def points(self) -> str:
        """The unit of a displayed difference; empty for a ratio."""
        return "points" if self.share else "" if self.ratio else self._seconds

    @property
    def _seconds(self) -> str:
        return "s" if self.key.endswith("_s") and not self.key.endswith("per_s") else ""

    @property
    def counted(self) -> bool:
        """True if it is a share of images, a multiple of 1/N on N images; F1 and means of classes are not."""
        return re.fullmatch(r"(?:val_)?(?:acc|top\d)", self.key.rpartition("/")[2]) is not None

    @property
    def part(self) -> str:
        """The split that it is about, `val` or `test`; empty for times and sizes."""
        part = {"best": "val", "test": "test"}.get(self.key.partition("/")[0], "")
        return "" if self.key == "best/epoch" else part

    def number(self, value: float, *, signed: bool = False) -> str:
        """Format a value, or a difference (`signed`), without its unit: `93.12`, `+1.9`."""
        value *= self.scale
        if self.share:
            return f"{value:+.1f}" if signed else f"{value:.2f}"
        if self.shown is console.count and abs(value) >= 1000:
            return f"{'-' if value < 0 else '+' * signed}{console.count(abs(value))}"
        return f"{value:+.4g}" if signed else f"{value:.4g}"


LABELS = {
    "test/acc": "test acc",
    "test/top5": "test top-5",
    "test/loss": "test loss",
    "test/f1_macro": "test macro-F1",
    "test/balanced_acc": "test balanced acc",
    "test/ece": "test ECE",
    VAL: "val acc",
    "best/val_loss": "val loss",
    "best/val_f1_macro": "val macro-F1",
    "best/val_balanced_acc": "val balanced acc",
    "best/val_ece": "val ECE",
    "best/epoch": "best epoch (from 0)",
    "params": "params",
    "macs": "MACs",
    "time/images_per_s": "images/s",
    "time/wall_s": "wall time",
    "time/train_s": "training time",
    LATENCY: "latency p50 ms",
    "time/latency_p95_ms": "p95 ms",
    "time/latency_p99_ms": "p99 ms",
    "time/inference_images_per_s": "inference images/s",
    "time/training_images_per_s": "training images/s",
    "time/first_call_s": "first call",
    "time/load_s": "load time",
    "time/flops": "FLOP/s",
    "time/share_of_matmul": "matmul share",
    "time/share_of_roofline": "roofline share",
    "memory/weights_mb": "weights MB",
    "memory/activations_mb": "activations MB",
    "memory/batch": "memory batch size",
    "memory/process_mb": "process MB",
    "memory/training_activations_mb": "training MB",
    "field/start": "initial field px",
    "field/end": "field px",
    # Metrics of a measurement that a trained run of the same model gets, see `measured`.
    "latency_p50_ms": "latency p50 ms",
    "inference_images_per_s": "inference images/s",
    "memory_activations_mb": "activations MB",
}

JOINED = {
    LATENCY: "latency_p50_ms",
    "time/inference_images_per_s": "inference_images_per_s",
    "memory/activations_mb": "memory_activations_mb",
}
"""The metrics of measurements that trained runs of the same model get, with their keys in these runs."""

SIZES = ("params", "macs", *JOINED.values())
"""Keys outside `time/` and `memory/` that are compared by their ratio."""

PROBED = ("translation/consistency_", "translation/acc_", "field/end", "field/start")
"""Prefixes of the metrics of probes of the finished network, in the order of their columns."""


@dataclass(frozen=True)
class Kind:
    """The default metrics of a kind of runs: trained or measured.

    Attributes:
        metric: the key of the metric that is compared; each finished run has it.
        order: the key of the metric that rows are sorted by, best first, and that tuned values are chosen on.
        columns: the keys of further columns of the table.
    """

    metric: str
    order: str
    columns: tuple[str, ...]


TRAINED = Kind(DEFAULT, VAL, ("params", "macs", "time/images_per_s", "time/wall_s"))
MEASURED = Kind(
    LATENCY,
    LATENCY,
    (
        "time/latency_p99_ms",
        "time/inference_images_per_s",
        "time/training_images_per_s",
        "memory/activations_mb",
        "memory/batch",
        "time/share_of_roofline",
        "macs",
    ),
)
KINDS = {"train": TRAINED, "bench": MEASURED}
"""The kind of runs of each verb."""


def figure(key: str) -> Figure:
    """Return the metric of a key; unknown keys, as of a later version of cnnbench, get sensible properties.

    A suffix, as in `latency_p50_ms (backend=eager)`, says how it was measured and is kept in the label.
    """
    base, bracket, way = key.partition(" (")
    name = base.rpartition("/")[2]
    share = any(word in name for word in ("acc", "top5", "top1", "f1", "ece", "consistency"))
    higher = (share and "ece" not in name) or name.endswith(("per_s", "flops")) or name.startswith("share_of")
    if name.endswith("_s") and not name.endswith("per_s"):
        shown: Callable[[Any], str] = console.duration
    elif share:
        shown = console.percent
    elif name.startswith("share_of"):
        shown = console.share  # without decimals: measured, and beyond 100 % if a cache helps
    elif base in ("params", "macs") or name.endswith(("per_s", "flops")):
        shown = console.count
    else:
        shown = console.number
    return Figure(key, _label(base) + bracket + way, higher, share, shown)


def _label(key: str) -> str:
    """Return the name of a metric: also of those on images that were shifted by so many pixels."""
    shifted = re.fullmatch(r"translation/(acc|consistency)_(\d+)", key)
    return f"{shifted[1]} {shifted[2]} px off" if shifted else LABELS.get(key, key)


def known(option: str, key: str, figures: Collection[str], axes: Iterable[str] = ()) -> Figure:
    """Return the metric with a key that the user gave.

    Metrics of measurements beside trained runs are also found by their key in summary.json (`JOINED`).

    Args:
        option: the option it was given to, for error messages.
        key: the key.
        figures: the keys that the runs have.
        axes: further allowed values of this option.

    Raises:
        NotThere: none of the runs has any metric yet.
        InputError: none of them has this metric.
    """
    base, bracket, way = key.partition(" (")
    beside = JOINED.get(base, base) + bracket + way
    for name in (key, beside):
        if name in figures:
            return figure(name)
    if not figures:
        raise NotThere(f"{option} {key}: none of these runs has metrics yet")
    # Sizes of splits and the number of epochs are settings rather than results: accepted, but not suggested.
    results = {name for name in figures if not name.startswith("data/") and name != "epochs"}
    allowed = sorted({*results, *axes})
    raise InputError(f"{option} {key}: none of these runs has this metric; {suggest(beside, allowed)}")
