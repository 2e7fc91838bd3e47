"""Responses: a metric over the values of a numeric setting, a curve for each choice of the other settings.

What a learning rate, a weight decay or a width does is seen from its curve, not from a table of pairs. The
values of a tuned setting that were not chosen are a part of it, and so are runs that diverged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from cnnbench.comparison.configurations import Configuration, axes
from cnnbench.comparison.metrics import Figure
from cnnbench.comparison.records import Record
from cnnbench.comparison.statistics import estimate

LEAST = 4
"""The number of values from which a setting has a curve: three are read from the table."""

WIDE = 20.0
"""The ratio of the largest to the smallest value from which the axis is logarithmic."""

FINDINGS = 4
"""The largest number of curves that are put in words; of more, the table has the chosen value of each."""


@dataclass(frozen=True)
class Point:
    """The runs of a curve with one value of the setting.

    Attributes:
        text: the value as the runs' settings have it.
        records: all runs, without a result or with one.
    """

    text: str
    records: Sequence[Record]

    @property
    def value(self) -> float:
        """The value as a number."""
        return float(self.text)

    @property
    def diverged(self) -> int:
        """The number of runs that diverged."""
        return sum(record.state == "diverged" for record in self.records)

    def values(self, key: str) -> list[float]:
        """Return a metric of each finished run that has it."""
        return [record.figures[key] for record in self.records if record.counts and key in record.figures]


@dataclass(frozen=True)
class Curve:
    """The points that differ in the setting alone.

    Attributes:
        name: the values of the other settings that differ; empty if there is one curve.
        points: in the order of their values.
        metric: the metric that the best point is chosen by.
        rounding: see `estimate`.
    """

    name: str
    points: Sequence[Point]
    metric: Figure
    rounding: float

    @cached_property
    def best(self) -> int | None:
        """The index of the best point, by `configurations.tuned`'s rule; None without a result."""
        key, sign = self.metric.key, 1 if self.metric.higher else -1
        found = [
            (len(values), sign * fmean(values), -i)
            for i, point in enumerate(self.points)
            if (values := point.values(key))
        ]
        return -max(found)[2] if found else None

    @cached_property
    def noise(self) -> tuple[int, int] | None:
        """The first and the last point around the best that are within noise of it.

        Within noise: no run diverged, and the mean is as near to the best as two means over seeds with the
        best's spread are in 95 % of cases. The spread of the other point does not count: beside the best a
        rate may train with some seeds and collapse with others, and its interval would then contain anything.
        None if the best has a single run or no spread.
        """
        if self.best is None:
            return None
        score = estimate([self.points[self.best].values(self.metric.key)], self.rounding)
        if score.high is None:
            return None
        reach = (score.high - score.mean) * 2**0.5
        ends = []
        for step in (-1, 1):
            at = self.best
            while 0 <= at + step < len(self.points) and self._near(self.points[at + step], score.mean, reach):
                at += step
            ends.append(at)
        return ends[0], ends[1]

    def _near(self, point: Point, mean: float, reach: float) -> bool:
        values = point.values(self.metric.key)
        return bool(values) and not point.diverged and abs(fmean(values) - mean) <= reach


@dataclass(frozen=True)
class Response:
    """The curves over one setting.

    Attributes:
        axis: the setting.
        metric: the metric that the curves are drawn of, and that decides between values.
        curves: the best first.
        joined: False if hardly two runs share their other settings, as in a search over several: then there
            is one curve, whose points differ in more than the setting and are not joined by a line.
        left: the values that are no numbers, such as `null`.
    """

    axis: str
    metric: Figure
    curves: Sequence[Curve]
    joined: bool
    left: Sequence[str]

    @property
    def values(self) -> list[float]:
        """The values of all curves, sorted."""
        return sorted({point.value for curve in self.curves for point in curve.points})

    @property
    def logarithmic(self) -> bool:
        """True if the values are positive and span more than a factor of `WIDE`."""
        return self.values[0] > 0 and self.values[-1] > WIDE * self.values[0]


def responses(
    every: Sequence[Configuration], metric: Figure, rounding: float, select: Sequence[str] = ()
) -> list[Response]:
    """Return the response to each numeric setting with four values or more, tuned settings first.

    Args:
        every: all configurations, those that tuning did not choose among them.
        metric: the metric of the curves.
        rounding: the standard deviation that rounding gives a value of it, see `estimate`.
        select: the tuned settings.
    """
    differ = axes(every)
    found = []
    for axis in sorted(differ, key=lambda axis: axis not in select):
        placed = {text for one in every if is_number(text := one.settings.get(axis, ""))}
        if len({float(text) for text in placed}) >= LEAST:
            others = [other for other in differ if other != axis]
            found.append(_response(every, axis, others, placed, metric, rounding))
    return found


def is_number(text: str) -> bool:
    """Return whether a setting's text is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _response(
    every: Sequence[Configuration],
    axis: str,
    others: Sequence[str],
    placed: set[str],
    metric: Figure,
    rounding: float,
) -> Response:
    groups: dict[str, dict[float, tuple[str, list[Record]]]] = {}
    configurations = [one for one in every if one.settings.get(axis) in placed]
    named = {id(one): _name(one.settings, others) for one in configurations}
    joined = len(configurations) >= 2 * len(set(named.values()))
    for one in configurations:
        points = groups.setdefault(named[id(one)] if joined else "", {})
        text = one.settings[axis]
        points.setdefault(float(text), (text, []))[1].extend(one.records)
    curves = [
        Curve(name, [Point(*points[value]) for value in sorted(points)], metric, rounding)
        for name, points in groups.items()
    ]
    left = sorted({one.settings[axis] for one in every if axis in one.settings} - placed)
    return Response(axis, metric, sorted(curves, key=_rank), joined, left)


def _name(settings: Mapping[str, str], others: Sequence[str]) -> str:
    """Return `resnet18 norm=none`: choices of a group by their value alone."""
    return " ".join(
        settings[key] if key.endswith(".name") else f"{key.rpartition('.')[2]}={settings[key]}"
        for key in others
        if key in settings
    )


def _rank(curve: Curve) -> float:
    """Return a sort key that puts the curve with the best point first."""
    if curve.best is None:
        return math.inf
    mean = fmean(curve.points[curve.best].values(curve.metric.key))
    return -mean if curve.metric.higher else mean


def findings(response: Response) -> list[str]:
    """Return what each curve says about the setting, in words; nothing of more than `FINDINGS` curves."""
    if not response.joined or len(response.curves) > FINDINGS:
        return []
    return [_finding(response.axis, curve) for curve in response.curves if curve.best is not None]


def _finding(axis: str, curve: Curve) -> str:
    """Return `optimizer.lr: best at 0.1 (val acc 95.37 %); within noise of it: 0.03 to 0.1 (…); …`."""
    assert curve.best is not None
    points, metric, best = curve.points, curve.metric, curve.points[curve.best]
    mean = " ".join(filter(None, (metric.label, metric.number(fmean(best.values(metric.key))), metric.unit)))
    said = [f"{axis}{' of ' * bool(curve.name)}{curve.name}: best at {best.text} ({mean})"]
    if curve.noise is None:
        said.append("without several seeds that differ its noise is not known")
    else:
        first, last = curve.noise
        seeds = len(best.values(metric.key))
        near = f"{points[first].text} to {points[last].text}" if first < last else "no other value tried"
        said.append(f"within noise of it: {near} (by the spread of its {seeds} seeds)")
    if diverged := [point.text for point in points if point.diverged]:
        said.append(f"diverged: runs at {', '.join(diverged)}")
    if curve.best in (0, len(points) - 1):
        end, beyond = ("smallest", "smaller") if curve.best == 0 else ("largest", "larger")
        said.append(f"it is the {end} value tried, so try {beyond} ones before you use {axis}={best.text}")
    else:
        said.append(f"to use it: {axis}={best.text}")
    return "; ".join(said)
