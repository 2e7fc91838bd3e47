"""The metric of val that decides which epoch is the best, and when training stops early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Row = Mapping[str, float]
"""Metrics of one epoch."""

LOWER = ("val/loss", "val/ece")
"""Metrics of which a lower value is better."""


def sign(monitor: str) -> int:
    """Return 1 if a higher value of a metric is better, -1 if a lower one is."""
    return -1 if monitor in LOWER else 1


def best_row(rows: Sequence[Row], monitor: str) -> Row:
    """Return the row of the best epoch: best monitored metric, then lowest val/loss, then the earliest.

    Without val images nothing is chosen, and the last epoch counts as the best.
    """
    if not is_validated(rows[-1]):
        return rows[-1]
    return max(rows, key=lambda row: (sign(monitor) * row[monitor], -row["val/loss"], -row["epoch"]))


def is_validated(row: Row) -> bool:
    """Return whether an epoch has metrics of val; with `data.val_fraction=0` none has."""
    return "val/loss" in row


def stops_early(rows: Sequence[Row], monitor: str, patience: int | None) -> bool:
    """Return whether the last `patience` epochs did not improve on the best monitored value before them."""
    if patience is None or len(rows) <= patience:
        return False
    values = [sign(monitor) * row[monitor] for row in rows]
    return max(values[-patience:]) <= max(values[:-patience])
