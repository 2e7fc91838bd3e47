"""Results that are hardly better than guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FACTOR, SHARE = 2.5, 0.2
"""Near chance is less than `FACTOR` times chance, or less than `SHARE` of the way from chance to 100 %."""


def near_chance(figures: Mapping[str, Any]) -> float | None:
    """Return the accuracy of guessing, if that on the test set is near it; None if it is not, or unknown.

    Guessing is to answer with the most frequent class of the test set. Three standard deviations of its
    accuracy always count as near.

    Args:
        figures: content of summary.json.
    """
    accuracy, classes, images = (figures.get(key) for key in ("test/acc", "data/classes", "data/test"))
    if not accuracy or not classes or not images:
        return None
    chance = float(figures.get("data/chance") or 1 / classes)
    near = min(FACTOR * chance, chance + SHARE * (1 - chance))
    noise = chance + 3 * math.sqrt(chance * (1 - chance) / images)
    return chance if accuracy < max(near, noise) else None
