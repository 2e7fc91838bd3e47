"""The figures of a run's summary: what they are called, which way is better, how they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cnnbench import ui
from cnnbench.errors import InputError, suggest

VAL = "best/val_acc"
DEFAULT = "test/acc"


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
    def points(self) -> str:
        """The unit of a difference."""
        return "points" if self.share else self._seconds

    @property
    def _seconds(self) -> str:
        return "s" if self.key.endswith("_s") and not self.key.endswith("per_s") else ""

    def number(self, value: float, *, signed: bool = False) -> str:
        """A value without its unit: `93.12`, `+1.9`."""
        value *= self.scale
        if self.share:
            return f"{value:+.1f}" if signed else f"{value:.2f}"
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
}
COLUMNS = ("params", "macs", "time/images_per_s", "time/wall_s")
"""What a table has beside accuracies."""


def figure(key: str) -> Figure:
    """What is known of a key; also of one that a later version of cnnbench writes."""
    name = key.rpartition("/")[2]
    share = any(word in name for word in ("acc", "top5", "top1", "ece"))
    higher = (share and "ece" not in name) or name.endswith("per_s")
    if name.endswith("_s") and not name.endswith("per_s"):
        shown: Callable[[Any], str] = ui.duration
    elif share:
        shown = ui.percent
    elif key in ("params", "macs") or name.endswith("per_s"):
        shown = ui.count
    else:
        shown = _plain
    return Figure(key, LABELS.get(key, key), higher, share, shown)


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"


def known(option: str, key: str, keys: Iterable[str]) -> Figure:
    """A figure that was asked for.

    Raises:
        InputError: none of the runs has it.
    """
    keys = sorted(set(keys))
    if key not in keys:
        raise InputError(f"{option} {key}: none of these runs has this figure; {suggest(key, keys)}")
    return figure(key)
