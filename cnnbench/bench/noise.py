"""Noise of a measurement: load from other processes, and spread between rounds. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUSY = 0.1
"""Tolerated load of other processes, as a fraction of the cores, and spread of rounds, of their median."""


def spread(summary: Mapping[str, Any]) -> float:
    """Return the largest relative spread between the rounds of a measurement."""
    return max(
        (v for k, v in summary.items() if k.startswith("noise/") and k.endswith("spread")), default=0.0
    )


def others(summary: Mapping[str, Any]) -> float:
    """Return the fraction of the cores that other processes used during the measurement."""
    return float(summary.get("noise/others_cpu", 0.0))


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """Return a warning for each kind of noise above `BUSY`."""
    messages = []
    if (share := others(summary)) > BUSY:
        messages.append(f"noisy: other processes used {100 * share:.0f} % of the cores while it was measured")
    if (share := spread(summary)) > BUSY:
        messages.append(f"noisy: rounds differed by {100 * share:.0f} %; smaller differences mean nothing")
    return messages
