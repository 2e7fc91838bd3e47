"""Configurations: runs that differ in nothing but the seed. Axes: the settings that differ between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf
from statistics import fmean

from cnnbench.comparison.metrics import VAL, figure
from cnnbench.comparison.records import Record
from cnnbench.errors import InputError
from cnnbench.models.family import family
from cnnbench.run_store.identity import CODE


@dataclass(frozen=True, eq=False)
class Configuration:
    """Runs that differ in nothing but the seed.

    Attributes:
        settings: the settings that decide the result, flat, without the seed.
        records: its runs, in the order of their seeds.
    """

    settings: Mapping[str, str]
    records: Sequence[Record]

    @cached_property
    def finished(self) -> list[Record]:
        """The runs whose metrics count."""
        return [record for record in self.records if record.counts]

    @property
    def states(self) -> Counter[str]:
        """The number of runs in each state."""
        return Counter(record.state for record in self.records)

    @property
    def family(self) -> str:
        """The family of its architecture, such as `resnet` for `resnet18`."""
        return family(self.settings.get("arch.name", ""))

    def values(self, key: str) -> list[float]:
        """Return a metric of each finished run that has it."""
        return [record.figures[key] for record in self.finished if key in record.figures]

    def mean(self, key: str) -> float | None:
        """Return the mean of a metric over the finished runs; None if none of them has it."""
        values = self.values(key)
        return fmean(values) if values else None

    def by_seed(self, key: str) -> dict[str, float]:
        """Return a metric of each finished run that has it, by seed."""
        return {record.seed: record.figures[key] for record in self.finished if key in record.figures}


def pooled(records: Sequence[Record]) -> list[Configuration]:
    """Group runs into configurations, in the order of their first runs."""
    groups: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(sorted(record.settings.items())), []).append(record)
    return [
        Configuration(dict(settings), sorted(members, key=lambda record: (len(record.seed), record.seed)))
        for settings, members in groups.items()
    ]


def tuned(
    configurations: Sequence[Configuration], select: Sequence[str], order: str = VAL
) -> list[Configuration]:
    """Return the best of each group of configurations that differ in nothing but the tuned settings.

    The best has the most finished runs and, among those with equally many, the best mean of `order`.

    Args:
        configurations: all of them.
        select: the tuned settings.
        order: the key of the metric that decides.

    Raises:
        InputError: there is a choice, and one of the values has no run with this metric.
    """
    cells: dict[tuple[tuple[str, str], ...], list[Configuration]] = {}
    for configuration in configurations:
        rest = tuple((key, value) for key, value in configuration.settings.items() if key not in select)
        cells.setdefault(rest, []).append(configuration)

    sign = 1 if figure(order).higher else -1

    def quality(configuration: Configuration) -> tuple[int, float]:
        mean = configuration.mean(order)
        return len(configuration.finished), -inf if mean is None else sign * mean

    for cell in cells.values():
        done = [one for one in cell if one.finished]
        if len(done) > 1 and any(one.mean(order) is None for one in done):
            raise InputError(
                f"select={','.join(select)}: chosen on {figure(order).label}, which not every value "
                "has: runs without val images (data.val_fraction=0) have none; "
                "allowed: --select '' to show every value"
            )
    return [max(cell, key=quality) for cell in cells.values()]


def axes(configurations: Sequence[Configuration]) -> list[str]:
    """Return the settings that differ, without those that follow from the name of their group's choice.

    `ops` follow from the architecture if each architecture has its native ops only.
    """
    choices = [configuration.settings for configuration in configurations]
    keys = {key for choice in choices for key in choice}
    differ = [key for key in keys if len({choice.get(key) for choice in choices}) > 1]
    differ.sort(key=lambda key: (key.split(".")[0], not key.endswith(".name"), key))

    def follows(key: str) -> bool:
        group = key.split(".")[0]
        name = "arch.name" if group == "ops" else f"{group}.name"
        if name not in differ or name == key:
            return False
        pairs = {(choice.get(name), choice.get(key)) for choice in choices}
        return len(pairs) == len({choice.get(name) for choice in choices})

    return [key for key in differ if not follows(key)]


def constant(configurations: Sequence[Configuration]) -> dict[str, str]:
    """Return the settings that are the same everywhere, without those that are switched off."""
    choices = [configuration.settings for configuration in configurations]
    first = choices[0] if choices else {}
    off = {"null", "false", "0", "0.0", "none", "1"}
    return {
        key: value
        for key, value in first.items()
        if not key.endswith(("._target_", f".{CODE}"))
        and (value not in off or key.endswith(".name") or (key, value) == ("device.threads", "1"))
        and all(choice.get(key) == value for choice in choices)
    }
