"""The rows of a comparison: a configuration each, or the values of an axis with everything else pooled."""

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
        members: the configurations behind its figures; one, unless rows are asked for `by` an axis.
        score: the metric; None if no run has it.
        order: the figure that rows are sorted by: of trained runs, val accuracy.
        metric: the metric's key.
        left: configurations of this value that do not count, see `balanced`; their runs are counted.
    """

    settings: Mapping[str, str]
    members: Sequence[Configuration]
    score: Estimate | None
    order: str
    metric: str
    left: Sequence[Configuration] = ()

    @property
    def val(self) -> float | None:
        """What rows are sorted by."""
        return self.mean(self.order)

    @property
    def family(self) -> str:
        """The families of its architectures."""
        return " ".join(dict.fromkeys(member.family for member in self.members))

    @property
    def records(self) -> list[Record]:
        """Its runs, also those that do not count."""
        return [record for member in (*self.members, *self.left) for record in member.records]

    @property
    def states(self) -> Counter[str]:
        """How many of the runs are in which state."""
        return Counter(record.state for record in self.records)

    def estimate(self, key: str) -> Estimate | None:
        """A figure with its interval, as the score is one."""
        return over_families(self.members, figure(key), 0.0)

    def mean(self, key: str) -> float | None:
        """A figure, as the mean over families of the mean over their configurations: as the score is one."""
        families: dict[str, list[float]] = {}
        for member in self.members:
            if (mean := member.mean(key)) is not None:
                families.setdefault(member.family, []).append(mean)
        return fmean(map(fmean, families.values())) if families else None

    @property
    def n(self) -> str:
        """`3`, or `2 of 3 (1 diverged)`: runs that have the metric."""
        states = self.states
        total, done, counted = states.total(), self.scored, sum(len(one.finished) for one in self.members)
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
        """How many runs have the metric."""
        return sum(len(member.values(self.metric)) for member in self.members)


def rows_of(
    found: Sequence[Configuration], columns: Sequence[str], metric: Figure, rounding: float, order: str = VAL
) -> list[Row]:
    """A row a configuration."""
    rows = []
    for one in found:
        settings = {axis: one.settings.get(axis, "-") for axis in columns or ["arch.name"]}
        rows.append(Row(settings, [one], over_families([one], metric, rounding), order, metric.key))
    return rows


def rows_by(
    found: Sequence[Configuration],
    by: Sequence[str],
    others: Sequence[str],
    metric: Figure,
    rounding: float,
    order: str = VAL,
) -> list[Row]:
    """A row for each value. Over several families, the family is the unit of its interval."""
    fair = balanced(found, by, others)
    groups: dict[tuple[str, ...], tuple[list[Configuration], list[Configuration]]] = {}
    for one in found:
        members, left = groups.setdefault(_values(one, by), ([], []))
        (members if one in fair else left).append(one)
    rows = []
    for values, (members, left) in groups.items():
        score = over_families(members, metric, rounding)
        rows.append(Row(dict(zip(by, values, strict=True)), members, score, order, metric.key, left))
    return rows


def over_families(members: Sequence[Configuration], metric: Figure, rounding: float) -> Estimate | None:
    """A figure over configurations; over several families, each counts once. None if no run has it."""
    families: dict[str, list[list[float]]] = {}
    for member in members:
        if scores := member.values(metric.key):
            families.setdefault(member.family, []).append(scores)
    if len(families) > 1:
        return _score([[estimate(strata).mean for strata in families.values()]], metric)
    return _score(next(iter(families.values())), metric, rounding) if families else None


def balanced(found: Sequence[Configuration], by: Sequence[str], others: Sequence[str]) -> list[Configuration]:
    """The configurations in those surroundings in which all values of an axis finished.

    A value that was tried in easy surroundings alone would look better than it is. One that finished nowhere
    has no figures, and does not cost the others theirs.
    """
    there: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for one in found:
        if one.finished:
            there.setdefault(_values(one, others), set()).add(_values(one, by))
    values = set().union(*there.values())
    return [one for one in found if one.finished and there[_values(one, others)] == values]


def _values(one: Configuration, axes: Sequence[str]) -> tuple[str, ...]:
    return tuple(one.settings.get(axis, "-") for axis in axes)


def ordered(
    rows: list[Row], sort: str, figures: set[str], axes: Sequence[str], order: str = VAL
) -> list[Row]:
    """Sorted by an axis or a figure, the better first; by `order` if none is asked for.

    Raises:
        InputError: there is no such figure.
    """
    if sort and (sort in axes or f"{sort}.name" in axes):
        axis = sort if sort in axes else f"{sort}.name"
        return sorted(rows, key=lambda row: _natural(row.settings.get(axis, "-")))
    by = known("--sort", sort, figures, axes) if sort else figure(order)

    def key(row: Row) -> tuple[bool, float]:
        value = row.mean(by.key)
        return value is None, (-value if by.higher else value) if value is not None else 0.0

    return sorted(rows, key=key)


def _natural(value: str) -> tuple[bool, float, str]:
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


def _score(strata: Sequence[Sequence[float]], metric: Figure, rounding: float = 0.0) -> Estimate:
    """With an interval that ends where the figure does: no share is beyond 100 %, no time below zero."""
    found = estimate(strata, rounding)
    if found.low is None or found.high is None:
        return found
    low = max(0.0, found.low) if min(map(min, strata)) >= 0 else found.low
    return replace(found, low=low, high=min(1.0, found.high) if metric.share else found.high)
