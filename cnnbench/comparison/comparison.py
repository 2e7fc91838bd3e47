"""All that is known of a set of runs, as one value: rows, effects, and what to know beside them."""

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
from cnnbench.comparison.metrics import JOINED, Figure, Kind, figure, known
from cnnbench.comparison.records import Record, once
from cnnbench.comparison.rows import Row, ordered, rows_by, rows_of
from cnnbench.errors import InputError, NotThere, suggest
from cnnbench.run_store.select import unknown_setting


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        metric: a key of summary.json; empty for what the runs are compared by.
        sort: a figure or an axis; empty for val.
        by: axes whose values are the rows, everything else pooled; empty for a row a configuration.
        select: settings that are tuned; None for what the runs themselves say.
        baselines: by axis.
    """

    metric: str = ""
    sort: str = ""
    by: tuple[str, ...] = ()
    select: tuple[str, ...] | None = None
    baselines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What `compare` has found.

    Attributes:
        kind: of the runs: trained, or measured.
        axes: the settings that differ.
        columns: those that are the columns of the table.
        rows: in the order asked for.
        configurations: with the tuned settings chosen.
        beside: measurements that are no rows: the runs have their figures, or they were left out.
        notes: what a reader must know before believing a number.
        problems: files that are not what they should be.
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
    constant: Mapping[str, str]
    records: Sequence[Record]
    beside: Sequence[Record]
    notes: Sequence[str]
    problems: Sequence[str]

    @property
    def columns_of_figures(self) -> list[str]:
        """The figures that a table has beside the metric: those of its kind, and what was measured."""
        there = sorted({key for record in self.records for key in record.figures})
        batches = {record.figures.get("memory/batch") for record in self.records if record.counts}
        own = [key for key in self.kind.columns if key != "memory/batch" or len(batches) > 1]
        measured = [key for name in JOINED.values() for key in there if key.partition(" (")[0] == name]
        return [*own, *measured]

    @property
    def states(self) -> Counter[str]:
        """How many runs are in which state."""
        return Counter(record.state for record in self.records)


def compare(found: Sequence[Record], options: Options | None = None) -> Comparison:
    """Pool, choose, measure.

    Raises:
        NotThere: a value that none of the runs has, or a figure where none has any.
        InputError: an axis or a figure that none of the runs has.
    """
    options = options or Options()
    records, notes = once(found)
    records, kind, beside, said = joined(records)
    notes += said
    usable = [record for record in records if record.settings]
    every = configs.pooled(usable)
    keys = {key for one in every for key in one.settings}
    select = _select(options, usable, keys, configs.axes(every))
    chosen = configs.tuned(every, select, kind.order) if select else every
    axes = configs.axes(chosen)
    figures = {key for record in usable for key in record.figures}
    # Where nothing has finished yet, there is a table of what has not.
    wanted = options.metric or kind.metric
    metric = figure(wanted) if wanted == kind.metric else known("--metric", wanted, figures)
    _check_beside(options, beside, keys)
    by = [_axis("--by", key, keys, axes) for key in options.by]
    baselines = {_axis("--baseline", k, keys, axes): v for k, v in options.baselines.items()}
    for axis, value in baselines.items():
        _check_value("--baseline", axis, value, chosen)
    rounding = _rounding(usable, metric)
    # Of what was tuned, the chosen value is shown, also where it is the same in all rows.
    tried = [axis for axis in select if len({one.settings.get(axis) for one in every}) > 1]
    columns = by or [*(axis for axis in axes if axis not in select), *tried]
    notes += [*tuning(every, chosen, tried, kind.order), *notes_on(usable)]
    if by:
        if both := next((axis for axis in by if axis in select), None):
            name = both.removesuffix(".name")
            raise InputError(
                f"--by {name}: it is tuned, and the best value stands for it; allowed: another axis, "
                "or --select '' to see every value"
            )
        others = [axis for axis in axes if axis not in by and axis not in select]
        rows = rows_by(chosen, by, others, metric, rounding, kind.order)
        if left := sum(bool(one.finished) for row in rows for one in row.left):
            whole = f"{len(chosen)} configuration{'s' * (len(chosen) != 1)}"
            notes.append(f"{left} of {whole} left out: not every value finished there")
    else:
        rows = rows_of(chosen, columns, metric, rounding, kind.order)
    measured = effects(chosen, axes, select, metric, rounding, baselines, only=by, order=kind.order)
    paired = [effect for effect in measured if effect.pairs or effect.lost]
    notes += unpaired(measured)
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
        constant=configs.constant(chosen),
        records=records,
        beside=beside,
        notes=notes,
        problems=[problem for record in (*records, *beside) for problem in record.problems],
    )


def _select(options: Options, records: Sequence[Record], keys: set[str], axes: Sequence[str]) -> list[str]:
    if options.select is not None:
        return [_axis("--select", key, keys, axes) for key in options.select]
    asked = dict.fromkeys(key for record in records for key in record.select)
    return [key for key in asked if key in keys]


def _check_beside(options: Options, beside: Sequence[Record], keys: set[str]) -> None:
    """Whether an axis was asked for that only measurements have, which are no rows.

    Raises:
        InputError: it was.
    """
    only = {key for record in beside for key in record.settings} - keys
    for option, asked in (("--by", options.by), ("--baseline", options.baselines)):
        for key in only.intersection(asked):
            raise InputError(
                f"{option} {key}: a setting of measurements, which are no rows beside trained runs; "
                f"allowed: as a condition ({key}=VALUE), or measurements without trained runs"
            )


def _axis(option: str, key: str, keys: set[str], near: Iterable[str] = ()) -> str:
    """A setting that was asked for; `arch` is `arch.name`.

    Raises:
        InputError: none of the runs has it.
    """
    if f"{key}.name" in keys:
        return f"{key}.name"
    if key not in keys:
        raise unknown_setting(f"{option} {key}", key, keys, near)
    return key


def _check_value(option: str, axis: str, value: str, found: Sequence[Configuration]) -> None:
    values = {one.settings[axis] for one in found if axis in one.settings}
    if value not in values:
        raise NotThere(f"{option} {axis}={value}: no run has this value; {suggest(value, sorted(values))}")


def _rounding(records: Sequence[Record], metric: Figure) -> float:
    """The standard deviation of the rounding of an accuracy on so many images: 1/N, uniform."""
    part = "data/val" if metric.key.startswith("best/") else "data/test"
    sizes = [record.figures[part] for record in records if record.figures.get(part)]
    return 1 / min(sizes) / math.sqrt(12) if metric.share and sizes else 0.0
