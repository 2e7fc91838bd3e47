"""The comparison of a set of runs as one value: rows, effects, notes and problems."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cnnbench.comparison import configurations as configs
from cnnbench.comparison.caveats import notes_on, tuning, unpaired
from cnnbench.comparison.configurations import Configuration
from cnnbench.comparison.effects import Effect, effects
from cnnbench.comparison.measured import joined
from cnnbench.comparison.metrics import JOINED, PROBED, Figure, Kind, figure, known
from cnnbench.comparison.records import Record, once
from cnnbench.comparison.responses import Response, findings, responses
from cnnbench.comparison.rows import Row, ordered, rows_by, rows_of
from cnnbench.errors import InputError, NotThere, suggest
from cnnbench.run_store.select import natural_order, unknown_setting


@dataclass(frozen=True)
class Options:
    """The user's choices.

    Attributes:
        metric: the key of the metric to compare; empty for the default of the kind of runs.
        sort: the metric or the axis to sort rows by; empty for the default: val accuracy, or latency.
        by: axes whose values are the rows, all else pooled; empty for one row per configuration.
        select: the tuned settings; None for those that the runs' own configs list.
        baselines: the baseline of each axis for which the default is not wanted.
    """

    metric: str = ""
    sort: str = ""
    by: tuple[str, ...] = ()
    select: tuple[str, ...] | None = None
    baselines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        options: the user's choices.
        kind: of the runs: trained, or measured.
        metric: the compared metric.
        axes: the settings that differ, in the configurations with the tuned settings chosen.
        columns: the settings that are columns of the table.
        select: the tuned settings.
        rows: the rows of the table, sorted.
        configurations: those with the tuned settings chosen.
        effects: the effects that have pairs.
        responses: the curves over numeric settings.
        findings: what the curves over tuned settings say, in words.
        constant: the settings that are the same everywhere.
        records: all runs that are compared.
        beside: measurements that are not rows: trained runs have their metrics, or they were left out.
        notes: what a reader must know before trusting a number.
        problems: one sentence for each damaged file.
    """

    options: Options
    kind: Kind
    metric: Figure
    axes: Sequence[str]
    columns: Sequence[str]
    select: Sequence[str]
    rows: Sequence[Row]
    configurations: Sequence[Configuration]
    effects: Sequence[Effect]
    responses: Sequence[Response]
    findings: Sequence[str]
    constant: Mapping[str, str]
    records: Sequence[Record]
    beside: Sequence[Record]
    notes: Sequence[str]
    problems: Sequence[str]

    @property
    def sorted_by(self) -> str:
        """The axis or metric that rows are sorted by; empty if no row has the metric."""
        key = self.options.sort or self.kind.order
        of_settings = key in self.columns or f"{key}.name" in self.columns
        return key if of_settings or any(row.mean(key) is not None for row in self.rows) else ""

    @property
    def columns_of_figures(self) -> list[str]:
        """The keys of the table's further metrics: of its kind, of measurements beside it, and of probes."""
        keys = sorted({key for record in self.records for key in record.figures})
        batches = {record.figures.get("memory/batch") for record in self.records if record.counts}
        own = [key for key in self.kind.columns if key != "memory/batch" or len(batches) > 1]
        measured = [key for name in JOINED.values() for key in keys if key.partition(" (")[0] == name]
        probed = [key for prefix in PROBED for key in natural_order(keys) if key.startswith(prefix)]
        return [*own, *measured, *probed]

    @property
    def states(self) -> Counter[str]:
        """The number of runs in each state."""
        return Counter(record.state for record in self.records)


def compare(records: Iterable[Record], options: Options | None = None) -> Comparison:
    """Pool runs into configurations, choose the tuned settings, and compute rows and effects.

    Raises:
        NotThere: none of the runs has this value, or none has metrics yet.
        InputError: none of the runs has this axis or metric.
    """
    options = options or Options()
    records, copies = once(records)
    records, kind, beside, measurements = joined(records)
    notes = [*copies, *measurements]
    usable = [record for record in records if record.settings]
    every = configs.pooled(usable)
    keys = {key for one in every for key in one.settings}
    select = _select(options, usable, keys, configs.axes(every))
    chosen = configs.tuned(every, select, kind.order) if select else every
    axes = configs.axes(chosen)
    figures = {key for record in usable for key in record.figures}
    # The default metric is not looked up: unfinished runs have a table, too.
    key = options.metric or kind.metric
    metric = figure(key) if key == kind.metric else known("--metric", key, figures)
    _check_beside(options, beside, keys)
    by = [_axis("--by", key, keys, axes) for key in options.by]
    baselines = {_axis("--baseline", k, keys, axes): v for k, v in options.baselines.items()}
    for axis, value in baselines.items():
        _check_value("--baseline", axis, value, chosen)
    rounding = _rounding(usable, metric)
    # The chosen value of a tuned setting is shown even if it is the same in all rows.
    tried = [axis for axis in select if len({one.settings.get(axis) for one in every}) > 1]
    columns = by or [*(axis for axis in axes if axis not in select), *tried]
    pooled = bool(by) and len({one.family for one in chosen}) > 1
    notes += [*tuning(every, chosen, tried, kind.order), *notes_on(usable, metric, pooled=pooled)]
    if by:
        if both := next((axis for axis in by if axis in select), None):
            name = both.removesuffix(".name")
            raise InputError(
                f"--by {name}: this setting is tuned, so only its best value is shown; "
                "allowed: another axis, or --select '' to show every value"
            )
        others = [axis for axis in axes if axis not in by and axis not in select]
        rows = rows_by(chosen, by, others, metric, rounding, kind.order)
        if left := sum(bool(one.finished) for row in rows for one in row.left):
            total = f"{len(chosen)} configuration{'s' * (len(chosen) != 1)}"
            names = ", ".join(axis.removesuffix(".name") for axis in by)
            reason = f"not every value of {names} finished with their other settings"
            notes.append(f"{left} of {total} left out: {reason}")
    else:
        rows = rows_of(chosen, columns, metric, rounding, kind.order)
    measured = effects(chosen, axes, select, metric, rounding, baselines, only=by, order=kind.order)
    paired = [effect for effect in measured if effect.pairs or effect.lost]
    notes += unpaired(measured, chosen, [axis for axis in axes if axis not in select])
    drawn = figure(metric.key if options.metric else kind.order)
    curves = responses(every, drawn, _rounding(usable, drawn), select)
    decided = [one for one in curves if one.axis in select and drawn.key == kind.order]
    return Comparison(
        options=options,
        kind=kind,
        metric=metric,
        axes=axes,
        columns=columns or ["arch.name"],
        select=select,
        rows=ordered(rows, options.sort, figures, columns, kind.order),
        configurations=chosen,
        effects=paired,
        responses=curves,
        findings=[text for one in decided for text in findings(one)],
        constant=configs.constant(chosen),
        records=records,
        beside=beside,
        notes=notes,
        problems=[problem for record in (*records, *beside) for problem in record.problems],
    )


def _select(options: Options, records: Sequence[Record], keys: set[str], axes: Sequence[str]) -> list[str]:
    if options.select is not None:
        return [_axis("--select", key, keys, axes) for key in options.select]
    listed = dict.fromkeys(key for record in records for key in record.select)
    return [key for key in listed if key in keys]


def _check_beside(options: Options, beside: Sequence[Record], keys: set[str]) -> None:
    """Check that no axis is one that only measurements beside trained runs have.

    Raises:
        InputError: one of them is.
    """
    only = {key for record in beside for key in record.settings} - keys
    for option, axes in (("--by", options.by), ("--baseline", options.baselines)):
        for key in only.intersection(axes):
            raise InputError(
                f"{option} {key}: a setting of measurements, which are not rows beside trained runs; "
                f"allowed: as a condition ({key}=VALUE), or measurements without trained runs"
            )


def _axis(option: str, key: str, keys: set[str], near: Iterable[str] = ()) -> str:
    """Return the full name of a setting, such as `arch.name` for `arch`.

    Raises:
        InputError: none of the runs has it.
    """
    if f"{key}.name" in keys:
        return f"{key}.name"
    if key not in keys:
        raise unknown_setting(f"{option} {key}", key, keys, near)
    return key


def _check_value(option: str, axis: str, value: str, configurations: Sequence[Configuration]) -> None:
    values = {one.settings[axis] for one in configurations if axis in one.settings}
    if value not in values:
        raise NotThere(f"{option} {axis}={value}: no run has this value; {suggest(value, sorted(values))}")


def _rounding(records: Sequence[Record], metric: Figure) -> float:
    """Return the standard deviation that rounding to multiples of 1/N gives an accuracy on N images."""
    split = f"data/{metric.part}"
    sizes = [record.figures[split] for record in records if record.figures.get(split)]
    return 1 / min(sizes) / math.sqrt(12) if metric.counted and sizes else 0.0
