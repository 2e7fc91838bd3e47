"""The figures of a run's summary: what they are called, which way is better, how they are written."""

from __future__ import annotations

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
    """A key of summary.json.

    Attributes:
        label: for people.
        higher: whether more is better.
        share: a number between 0 and 1, shown in percent; differences of it are points.
    """

    key: str
    label: str
    higher: bool
    share: bool
    shown: Callable[[Any], str]

    @property
    def scale(self) -> float:
        """What a value is multiplied with to be shown."""
        return 100.0 if self.share else 1.0

    @property
    def unit(self) -> str:
        """Of the value as it is shown."""
        return "%" if self.share else self._seconds

    @property
    def ratio(self) -> bool:
        """Whether two values of it are compared by their ratio: times, speeds and sizes."""
        base = self.key.partition(" (")[0]
        sizes = base.startswith(("time/", "memory/")) or base in SIZES
        return sizes and not base.rpartition("/")[2].startswith("share_of")

    @property
    def null(self) -> float:
        """The null value of an effect: the ratio, or the difference, of two equal values."""
        return 1.0 if self.ratio else 0.0

    @property
    def points(self) -> str:
        """The unit of a difference."""
        return "points" if self.share else "" if self.ratio else self._seconds

    @property
    def _seconds(self) -> str:
        return "s" if self.key.endswith("_s") and not self.key.endswith("per_s") else ""

    def number(self, value: float, *, signed: bool = False) -> str:
        """A value without its unit: `93.12`, `+1.9`."""
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
    VAL: "val acc",
    "best/val_loss": "val loss",
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
    "time/load_s": "loading",
    "time/flops": "FLOP/s",
    "time/share_of_matmul": "of matmul",
    "time/share_of_roofline": "of roofline",
    "memory/weights_mb": "weights MB",
    "memory/activations_mb": "activations MB",
    "memory/batch": "memory at batch",
    "memory/process_mb": "process MB",
    "memory/training_activations_mb": "training MB",
    # Of a measurement, beside what was trained; see `measured`.
    "latency_p50_ms": "latency p50 ms",
    "inference_images_per_s": "inference images/s",
    "memory_activations_mb": "activations MB",
}

JOINED = {
    LATENCY: "latency_p50_ms",
    "time/inference_images_per_s": "inference_images_per_s",
    "memory/activations_mb": "memory_activations_mb",
}
"""The figures of a measurement that a trained run gets, and what they are called there."""

SIZES = ("params", "macs", *JOINED.values())


@dataclass(frozen=True)
class Kind:
    """What is compared of runs of one kind unless something else is asked for.

    Attributes:
        metric: a key of summary.json that each finished run has.
        order: by which rows are sorted, the better first.
        columns: figures that a table has besides.
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
"""By verb."""


def figure(key: str) -> Figure:
    """What is known of a key; also of one that a later version of cnnbench writes.

    What stands behind it in brackets says how it was measured, and nothing about the figure.
    """
    base, bracket, way = key.partition(" (")
    name = base.rpartition("/")[2]
    share = any(word in name for word in ("acc", "top5", "top1", "ece"))
    higher = (share and "ece" not in name) or name.endswith(("per_s", "flops")) or name.startswith("share_of")
    if name.endswith("_s") and not name.endswith("per_s"):
        shown: Callable[[Any], str] = console.duration
    elif share:
        shown = console.percent
    elif name.startswith("share_of"):
        shown = percent  # of what was measured: a cache may exceed it
    elif base in ("params", "macs") or name.endswith(("per_s", "flops")):
        shown = console.count
    else:
        shown = _plain
    return Figure(key, LABELS.get(base, base) + bracket + way, higher, share, shown)


def percent(value: Any) -> str:
    """A share of what was measured, which may be more than all of it."""
    return f"{100 * value:.0f} %" if isinstance(value, int | float) else "-"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"


def known(option: str, key: str, figures: Collection[str], axes: Iterable[str] = ()) -> Figure:
    """A figure that was asked for; of a measurement beside trained runs also by its key in summary.json.

    Raises:
        NotThere: none of the runs has any figure yet.
        InputError: none of them has this one.
    """
    base, bracket, way = key.partition(" (")
    beside = JOINED.get(base, base) + bracket + way
    for one in (key, beside):
        if one in figures:
            return figure(one)
    if not figures:
        raise NotThere(f"{option} {key}: none of these runs has figures yet")
    # The size of a data set and the number of epochs were asked for: who wants them knows their names.
    results = {one for one in figures if not one.startswith("data/") and one != "epochs"}
    allowed = sorted({*results, *axes})
    raise InputError(f"{option} {key}: none of these runs has this figure; {suggest(beside, allowed)}")
