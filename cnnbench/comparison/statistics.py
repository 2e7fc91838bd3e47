"""Confidence intervals and p-values of means over few runs.

One method for all: a stratum is a set of runs, or of pairs of runs, that differ in nothing but the seed. The
estimate is the mean of the strata's means; its standard error follows from the variance within the strata,
and its degrees of freedom from Welch and Satterthwaite (Biometrics Bulletin 2, 1946, p. 110). With one
stratum this is Student's t. `docs/appendix/coverage.md` has the measured coverage of the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty.

    Attributes:
        mean: the mean of the strata's means.
        n: the number of values.
        low, high: the 95 % confidence interval; None if the variance cannot be estimated (a single value,
            or no variance at all).
        p: two-sided p-value of the hypothesis that the mean is zero; None in the same cases.
    """

    mean: float
    n: int
    low: float | None = None
    high: float | None = None
    p: float | None = None


def estimate(strata: Sequence[Sequence[float]], rounding: float = 0.0) -> Estimate:
    """Return the mean of the strata's means, with a 95 % confidence interval.

    If each stratum has two values or more, the error comes from the variance within strata: the interval is
    about other seeds of the same strata. If one has a single value, it comes from the variance of the means
    of the strata: the interval is about other strata.

    Args:
        strata: the values of each stratum; none is empty.
        rounding: the least standard deviation of a value, from rounding. An accuracy on N images is a
            multiple of 1/N; without it, two seeds that agree by chance would give an interval of width 0.
    """
    means = [math.fsum(values) / len(values) for values in strata]
    n = sum(map(len, strata))
    if len(strata) > 1 and min(map(len, strata)) == 1:
        strata, means = [means], [math.fsum(means) / len(means)]
    k = len(strata)
    mean = math.fsum(means) / k
    if min(map(len, strata)) < 2:
        return Estimate(mean, n)
    squares = [  # squared standard errors of the strata's means
        max(_variance(values, m), rounding**2) / len(values) for values, m in zip(strata, means, strict=True)
    ]
    total = math.fsum(squares)
    if not total > 0:  # equal values of a metric that is not rounded
        return Estimate(mean, n)
    freedom = total**2 / math.fsum(
        square**2 / (len(values) - 1) for square, values in zip(squares, strata, strict=True)
    )
    error = math.sqrt(total) / k
    # scipy.special, not scipy.stats, whose import takes longer than everything else here.
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    return Estimate(mean, n, mean - half, mean + half, 2 * float(stdtr(freedom, -abs(mean) / error)))


def _variance(values: Sequence[float], mean: float) -> float:
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Apply Holm's correction (Scandinavian Journal of Statistics 6, 1979, p. 65); None stays None.

    It controls the family-wise error rate, the chance of one or more false positives, under any dependence
    between the tests.

    Returns:
        The corrected p-values, in the order given.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[i] = highest
    return corrected
