"""Whether a machine was quiet enough for what was measured on it. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUSY = 0.1
"""Share of the cores that others may use, and of the median that rounds may differ by."""


def spread(summary: Mapping[str, Any]) -> float:
    """By how much the rounds of a measurement differed: the most of what it measured."""
    return max(
        (v for k, v in summary.items() if k.startswith("noise/") and k.endswith("spread")), default=0.0
    )


def others(summary: Mapping[str, Any]) -> float:
    """The share of the cores that other processes used meanwhile."""
    return float(summary.get("noise/others_cpu", 0.0))


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """Why the figures of a run are not to be trusted to the last percent; nothing if they are."""
    found = []
    if (share := others(summary)) > BUSY:
        found.append(f"noisy: other processes used {100 * share:.0f} % of the cores meanwhile")
    if (share := spread(summary)) > BUSY:
        found.append(f"noisy: rounds differed by {100 * share:.0f} %; smaller differences mean nothing")
    return found
