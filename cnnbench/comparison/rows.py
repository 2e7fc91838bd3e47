"""The rows of a comparison: one per configuration, or one per value of an axis, all else pooled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from cnnbench.comparison.configurations import Configuration
from cnnbench.comparison.metrics import VAL, Figure, figure, known
from cnnbench.comparison.records import Record
from cnnbench.comparison.statistics import Estimate, estimate


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        settings: the values of the axes.
        members: the configurations that its metrics are means over; one, unless rows are pooled (`--by`).
        score: the compared metric with its interval; None if no run has it.
        order: the key of the metric that rows are sorted by: val accuracy for trained runs.
        metric: the key of the compared metric.
        left: configurations with this value that are left out of the means, see `balanced`; their runs are
            listed in `n`.
    """

    settings: Mapping[str, str]
    members: Sequence[Configuration]
    score: Estimate | None
    order: str
    metric: str
    left: Sequence[Configuration] = ()

    @property
    def val(self) -> float | None:
        """The mean of the metric that rows are sorted by; None if no run has it."""
        return self.mean(self.order)

    @property
    def family(self) -> str:
        """The families of its architectures, separated by blanks."""
        return " ".join(dict.fromkeys(member.family for member in self.members))

    @property
    def records(self) -> list[Record]:
        """All its runs, those left out of the means included."""
        return [record for member in (*self.members, *self.left) for record in member.records]

    @property
    def states(self) -> Counter[str]:
        """The number of runs in each state."""
        return Counter(record.state for record in self.records)

    def estimate(self, key: str) -> Estimate | None:
        """Return the mean and interval of a metric, computed as the score is."""
        return over_families(self.members, figure(key), 0.0)

    def mean(self, key: str) -> float | None:
        """Return the mean of a metric, computed as the score is: over families, then configurations."""
        families: dict[str, list[float]] = {}
        for member in self.members:
            if (mean := member.mean(key)) is not None:
                families.setdefault(member.family, []).append(mean)
        return fmean(map(fmean, families.values())) if families else None

    @property
    def n(self) -> str:
        """The number of runs that have the metric, and why others have not: `3`, or `2 of 3 (1 diverged)`."""
        states = self.states
        total, done, counted = (
            states.total(),
            self.scored,
            sum(len(member.finished) for member in self.members),
        )
        if done == total:
            return str(done)
        rest = [f"{n} {state}" for state, n in sorted(states.items()) if state != "finished"]
        left = sum(len(member.finished) for member in self.left)
        if without := counted - done:
            rest.append(f"{without} without {self.metric}")
        if left:
            rest.append(f"{left} left out")
        return f"{done} of {total} ({', '.join(rest)})"

    @property
    def scored(self) -> int:
        """The number of runs that have the metric."""
        return sum(len(member.values(self.metric)) for member in self.members)


def rows_of(
    configurations: Sequence[Configuration],
    columns: Sequence[str],
    metric: Figure,
    rounding: float,
    order: str = VAL,
) -> list[Row]:
    """Return one row per configuration."""
    rows = []
    for configuration in configurations:
        settings = {axis: configuration.settings.get(axis, "-") for axis in columns or ["arch.name"]}
        rows.append(
            Row(
                settings, [configuration], over_families([configuration], metric, rounding), order, metric.key
            )
        )
    return rows


def rows_by(
    configurations: Sequence[Configuration],
    by: Sequence[str],
    others: Sequence[str],
    metric: Figure,
    rounding: float,
    order: str = VAL,
) -> list[Row]:
    """Return one row per combination of values of the axes `by`, pooled over all other settings.

    If a row has several families of architectures, the family is the unit of its interval.

    Args:
        configurations: with the tuned settings chosen.
        by: the axes whose values are the rows.
        others: the other axes, which are pooled.
        metric: the compared metric.
        rounding: see `estimate`.
        order: the key of the metric that rows are sorted by.
    """
    fair = balanced(configurations, by, others)
    groups: dict[tuple[str, ...], tuple[list[Configuration], list[Configuration]]] = {}
    for configuration in configurations:
        members, left = groups.setdefault(_values(configuration, by), ([], []))
        (members if configuration in fair else left).append(configuration)
    rows = []
    for values, (members, left) in groups.items():
        score = over_families(members, metric, rounding)
        rows.append(Row(dict(zip(by, values, strict=True)), members, score, order, metric.key, left))
    return rows


def over_families(members: Sequence[Configuration], metric: Figure, rounding: float) -> Estimate | None:
    """Return the mean of a metric over configurations, each family counted once; None if no run has it."""
    families: dict[str, list[list[float]]] = {}
    for member in members:
        if scores := member.values(metric.key):
            families.setdefault(member.family, []).append(scores)
    if len(families) > 1:
        return _score([[estimate(strata).mean for strata in families.values()]], metric)
    return _score(next(iter(families.values())), metric, rounding) if families else None


def balanced(
    configurations: Sequence[Configuration], by: Sequence[str], others: Sequence[str]
) -> list[Configuration]:
    """Return the finished configurations whose other settings also finished with every other value of `by`.

    A value that was only tried with easy other settings would look better than it is. A value that finished
    nowhere is not required: it has no metrics, and must not cost the other values theirs.
    """
    finished: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for configuration in configurations:
        if configuration.finished:
            finished.setdefault(_values(configuration, others), set()).add(_values(configuration, by))
    values = set().union(*finished.values())
    return [
        configuration
        for configuration in configurations
        if configuration.finished and finished[_values(configuration, others)] == values
    ]


def _values(configuration: Configuration, axes: Sequence[str]) -> tuple[str, ...]:
    return tuple(configuration.settings.get(axis, "-") for axis in axes)


def ordered(
    rows: list[Row], sort: str, figures: set[str], axes: Sequence[str], order: str = VAL
) -> list[Row]:
    """Sort rows by an axis or by a metric, best first, and rows that are equal in it or lack it by settings.

    Args:
        rows: the rows.
        sort: the axis or the key of the metric; empty for `order`.
        figures: the keys that the runs have.
        axes: the columns of settings.
        order: the default.

    Raises:
        InputError: no run has this metric.
    """
    if sort and (sort in axes or f"{sort}.name" in axes):
        axis = sort if sort in axes else f"{sort}.name"
        return sorted(rows, key=lambda row: _natural(row.settings.get(axis, "-")))
    by = known("--sort", sort, figures, axes) if sort else figure(order)

    def key(row: Row) -> tuple[bool, float]:
        value = row.mean(by.key)
        return value is None, (-value if by.higher else value) if value is not None else 0.0

    natural = sorted(rows, key=lambda row: [_natural(row.settings.get(axis, "-")) for axis in axes])
    return sorted(natural, key=key)


def _natural(value: str) -> tuple[bool, float, str]:
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


def _score(strata: Sequence[Sequence[float]], metric: Figure, rounding: float = 0.0) -> Estimate:
    """Estimate a mean; cut its interval at 100 % for a share, and at 0 if no value is negative."""
    score = estimate(strata, rounding)
    if score.low is None or score.high is None:
        return score
    low = max(0.0, score.low) if min(map(min, strata)) >= 0 else score.low
    return replace(score, low=low, high=min(1.0, score.high) if metric.share else score.high)
