"""Figures of layers as short texts, for terminals and pages alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def window_cell(window: Mapping[str, Any] | None) -> str:
    """Return a window as `3x3/2 p1`."""
    if window is None:
        return ""
    kernel, padding, dilation = "x".join(map(str, window["kernel"])), window["padding"], window["dilation"]
    parts = [kernel + (f"/{sides_cell(window['stride'])}" if max(window["stride"]) > 1 else "")]
    if padding == "same" or max(padding):
        parts.append("same" if padding == "same" else f"p{sides_cell(padding)}")
    if max(dilation) > 1:
        parts.append(f"d{sides_cell(dilation)}")
    return " ".join(parts)


def field_cell(field: Mapping[str, Any]) -> str:
    """Return a field as `7`, or `7 (3)` where its largest path and its smallest differ."""
    largest, narrowest = sides_cell(field["size"]), sides_cell(field["narrowest"])
    return largest if largest == narrowest else f"{largest} ({narrowest})"


def sides_cell(pair: Sequence[float | None]) -> str:
    """Return rows and columns as `3`, or `3x1` where they differ; null: all of them."""
    rows, columns = ("all" if value is None else f"{value:g}" for value in pair)
    return rows if rows == columns else f"{rows}x{columns}"


def memory_cell(number: float) -> str:
    """Return bytes as `1.5 MiB` or `12 KiB`."""
    return f"{number / 2**20:.3g} MiB" if number >= 2**20 / 10 else f"{number / 2**10:.3g} KiB"
