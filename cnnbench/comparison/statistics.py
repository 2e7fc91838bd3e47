"""Intervals and p-values of means over few runs.

One method for all: each stratum (runs, or pairs of runs, that differ in nothing but the seed) has a mean; the
estimate is the mean of these means, its error follows from the spread within the strata, and its degrees
of freedom from Welch and Satterthwaite (Biometrics Bulletin 2, 1946, p. 110). With one stratum that is
Student's t. `docs/COMPARE.md` shows how often the intervals hold what they promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and how sure it is.

    Attributes:
        n: values that it is the mean of.
        low, high: the interval; None where nothing tells the spread (a single value).
        p: of the hypothesis that the mean is zero, two-sided; None likewise.
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    p: float | None = None


def estimate(strata: Sequence[Sequence[float]], rounding: float = 0.0) -> Estimate:
    """The mean of the strata's means, with a 95 % interval.

    Where each stratum has two values or more, the spread within them tells the error: other seeds, of just
    these strata. Where one has a single value, the spread of the strata's means does: other strata.

    Args:
        strata: none of them empty.
        rounding: the standard deviation that rounding alone gives a value. An accuracy on N images is a
            multiple of 1/N; without this, two seeds that agree by chance make an interval of width zero.
    """
    means = [math.fsum(values) / len(values) for values in strata]
    n = sum(map(len, strata))
    if len(strata) > 1 and min(map(len, strata)) == 1:
        strata, means = [means], [math.fsum(means) / len(means)]
    k = len(strata)
    mean = math.fsum(means) / k
    if min(map(len, strata)) < 2:
        return Estimate(mean, n)
    parts = [
        max(_variance(values, m), rounding**2) / len(values) for values, m in zip(strata, means, strict=True)
    ]
    total = math.fsum(parts)
    if not total > 0:  # equal values of a figure that is not rounded: nothing tells the spread
        return Estimate(mean, n)
    freedom = total**2 / math.fsum(
        part**2 / (len(values) - 1) for part, values in zip(parts, strata, strict=True)
    )
    error = math.sqrt(total) / k
    # scipy.special, not scipy.stats, whose import takes longer than everything else here.
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return Estimate(mean, n, mean - half, mean + half, 2 * float(stdtr(freedom, -abs(mean) / error)))


def _variance(values: Sequence[float], mean: float) -> float:
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction (Scandinavian Journal of Statistics 6, 1979, p. 65), in the order given.

    The chance of one or more false findings among all of them stays at the level, whatever they depend on.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[i] = highest
    return corrected
