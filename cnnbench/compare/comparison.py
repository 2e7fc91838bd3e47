"""All that is known of a set of runs, as one value: rows, effects, and what to know beside them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from cnnbench.compare import configurations as configs
from cnnbench.compare.configurations import Configuration
from cnnbench.compare.effects import Effect, effects
from cnnbench.compare.figures import DEFAULT, VAL, Figure, figure, known
from cnnbench.compare.records import Record, once
from cnnbench.compare.statistics import Estimate, estimate
from cnnbench.errors import InputError, suggest


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        metric: a key of summary.json.
        sort: a figure or an axis; empty for val.
        by: axes whose values are the rows, everything else pooled; empty for a row a configuration.
        select: settings that are tuned; None for what the runs themselves say.
        baselines: by axis.
    """

    metric: str = DEFAULT
    sort: str = ""
    by: tuple[str, ...] = ()
    select: tuple[str, ...] | None = None
    baselines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        settings: the values of the axes.
        members: the configurations behind it; one, unless rows are asked for `by` an axis.
        score: the metric; None if no run has it.
        val: what rows are sorted by.
    """

    settings: Mapping[str, str]
    members: Sequence[Configuration]
    score: Estimate | None
    val: float | None

    @property
    def records(self) -> list[Record]:
        """The runs behind it."""
        return [record for member in self.members for record in member.records]

    @property
    def states(self) -> Counter[str]:
        """How many of the runs are in which state."""
        return Counter(record.state for record in self.records)

    def mean(self, key: str) -> float | None:
        """A figure, as the mean over the configurations."""
        means = [mean for member in self.members if (mean := member.mean(key)) is not None]
        return fmean(means) if means else None

    @property
    def n(self) -> str:
        """`3`, or `2 of 3 (1 diverged)`."""
        states = self.states
        total, done = states.total(), states["finished"]
        if done == total:
            return str(done)
        rest = ", ".join(f"{n} {state}" for state, n in sorted(states.items()) if state != "finished")
        return f"{done} of {total} ({rest})"


@dataclass(frozen=True)
class Comparison:
    """What `compare` has found.

    Attributes:
        axes: the settings that differ.
        columns: those that are the columns of the table.
        rows: in the order asked for.
        configurations: with the tuned settings chosen; `others` are those that were not chosen.
        notes: what a reader must know before believing a number.
        problems: files that are not what they should be.
    """

    options: Options
    metric: Figure
    axes: Sequence[str]
    columns: Sequence[str]
    select: Sequence[str]
    rows: Sequence[Row]
    configurations: Sequence[Configuration]
    others: Sequence[Configuration]
    effects: Sequence[Effect]
    constant: Mapping[str, str]
    records: Sequence[Record]
    notes: Sequence[str]
    problems: Sequence[str]

    @property
    def states(self) -> Counter[str]:
        """How many runs are in which state."""
        return Counter(record.state for record in self.records)


def compare(found: Sequence[Record], options: Options | None = None) -> Comparison:
    """Pool, choose, measure.

    Raises:
        InputError: an axis or a figure that none of the runs has.
    """
    options = options or Options()
    records, twice = once(found)
    usable = [record for record in records if record.settings]
    every = configs.pooled(usable)
    keys = {key for one in every for key in one.settings}
    select = _select(options, usable, keys, configs.axes(every))
    chosen = configs.tuned(every, select) if select else every
    axes = configs.axes(chosen)
    figures = {key for record in usable for key in record.figures}
    metric = known("--metric", options.metric, figures) if figures else figure(options.metric)
    by = [_axis("--by", key, keys, axes) for key in options.by]
    baselines = {_axis("--baseline", k, keys, axes): v for k, v in options.baselines.items()}
    for axis, value in baselines.items():
        _check_value("--baseline", axis, value, chosen)
    rounding = _rounding(usable, metric)
    # Of what was tuned, the chosen value is shown, also where it is the same in all rows.
    tried = [axis for axis in select if len({one.settings.get(axis) for one in every}) > 1]
    columns = by or [*(axis for axis in axes if axis not in select), *tried]
    notes = _notes(usable, twice, tried)
    if by:
        others = [axis for axis in axes if axis not in by and axis not in select]
        fair = _balanced(chosen, by, others)
        if left := len(chosen) - len(fair):
            notes.append(f"{left} of {len(chosen)} configurations left out: not every value finished there")
        rows = _rows_by(fair, by, metric, rounding)
    else:
        rows = _rows(chosen, columns, metric, rounding)
    measured = effects(chosen, axes, select, metric, rounding, baselines, only=by)
    paired = [effect for effect in measured if effect.pairs or effect.lost]
    if alone := sorted({e.axis for e in measured} - {e.axis for e in paired}):
        notes.append(f"no two runs differ in one of these alone: {', '.join(alone)}")
    return Comparison(
        options=options,
        metric=metric,
        axes=axes,
        columns=columns or ["arch.name"],
        select=select,
        rows=_sorted(rows, options.sort, figures, columns),
        configurations=chosen,
        others=[one for one in every if one not in chosen],
        effects=paired,
        constant=configs.constant(chosen),
        records=records,
        notes=notes,
        problems=[problem for record in records for problem in record.problems],
    )


def _select(options: Options, records: Sequence[Record], keys: set[str], axes: Sequence[str]) -> list[str]:
    if options.select is not None:
        return [_axis("--select", key, keys, axes) for key in options.select]
    asked = dict.fromkeys(key for record in records for key in record.select)
    return [key for key in asked if key in keys]


def _axis(option: str, key: str, keys: set[str], near: Iterable[str] = ()) -> str:
    """A setting that was asked for; `arch` is `arch.name`.

    Raises:
        InputError: none of the runs has it.
    """
    if f"{key}.name" in keys:
        return f"{key}.name"
    if key not in keys:
        raise unknown(f"{option} {key}", key, keys, near)
    return key


def unknown(what: str, key: str, keys: Iterable[str], axes: Iterable[str]) -> InputError:
    """A setting that none of the runs has: what was meant, and which ones differ here."""
    near = suggest(key, keys).partition(" allowed: ")[0] if suggest(key, keys).startswith("did") else ""
    said = ", ".join(axis.removesuffix(".name") for axis in axes)
    differ = f" those that differ here: {said}" * bool(said)
    return InputError(f"{what}: none of these runs has this setting; {near}{differ or ' see config.yaml'}")


def _check_value(option: str, axis: str, value: str, found: Sequence[Configuration]) -> None:
    values = {one.settings[axis] for one in found if axis in one.settings}
    if value not in values:
        raise InputError(f"{option} {axis}={value}: no run has this value; {suggest(value, sorted(values))}")


def _rounding(records: Sequence[Record], metric: Figure) -> float:
    """The standard deviation of the rounding of an accuracy on so many images: 1/N, uniform."""
    part = "data/val" if metric.key.startswith("best/") else "data/test"
    sizes = [record.figures[part] for record in records if record.figures.get(part)]
    return 1 / min(sizes) / math.sqrt(12) if metric.share and sizes else 0.0


def _score(strata: Sequence[Sequence[float]], metric: Figure, rounding: float = 0.0) -> Estimate:
    """With an interval that ends where a share does: nothing is beyond 100 %."""
    found = estimate(strata, rounding)
    if metric.share and found.low is not None and found.high is not None:
        return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))
    return found


def _rows(
    found: Sequence[Configuration], columns: Sequence[str], metric: Figure, rounding: float
) -> list[Row]:
    rows = []
    for one in found:
        values = one.values(metric.key)
        settings = {axis: one.settings.get(axis, "-") for axis in columns or ["arch.name"]}
        rows.append(
            Row(settings, [one], _score([values], metric, rounding) if values else None, one.mean(VAL))
        )
    return rows


def _rows_by(found: Sequence[Configuration], by: Sequence[str], metric: Figure, rounding: float) -> list[Row]:
    """A row for each value. Over several families, the family is the unit of its interval."""
    groups: dict[tuple[str, ...], list[Configuration]] = {}
    for one in found:
        groups.setdefault(tuple(one.settings.get(axis, "-") for axis in by), []).append(one)
    rows = []
    for values, members in groups.items():
        families: dict[str, list[list[float]]] = {}
        for member in members:
            if scores := member.values(metric.key):
                families.setdefault(member.family, []).append(scores)
        score = None
        if len(families) > 1:
            score = _score([[estimate(strata).mean for strata in families.values()]], metric)
        elif families:
            score = _score(next(iter(families.values())), metric, rounding)
        vals = [mean for member in members if (mean := member.mean(VAL)) is not None]
        rows.append(Row(dict(zip(by, values, strict=True)), members, score, fmean(vals) if vals else None))
    return rows


def _balanced(
    found: Sequence[Configuration], by: Sequence[str], others: Sequence[str]
) -> list[Configuration]:
    """The configurations in those surroundings in which all values of an axis finished.

    A value that was tried in easy surroundings alone would look better than it is.
    """
    values = {tuple(one.settings.get(axis, "-") for axis in by) for one in found}
    there: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for one in found:
        around = tuple(one.settings.get(axis, "-") for axis in others)
        if one.finished:
            there.setdefault(around, set()).add(tuple(one.settings.get(axis, "-") for axis in by))
    return [
        one for one in found if there.get(tuple(one.settings.get(axis, "-") for axis in others)) == values
    ]


def _sorted(rows: list[Row], sort: str, figures: set[str], axes: Sequence[str]) -> list[Row]:
    if sort and (sort in axes or f"{sort}.name" in axes):
        axis = sort if sort in axes else f"{sort}.name"
        return sorted(rows, key=lambda row: _natural(row.settings.get(axis, "-")))
    by = known("--sort", sort, [*figures, *axes]) if sort else figure(VAL)

    def key(row: Row) -> tuple[bool, float]:
        value = row.mean(by.key)
        return value is None, (-value if by.higher else value) if value is not None else 0.0

    return sorted(rows, key=key)


def _natural(value: str) -> tuple[bool, float, str]:
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


def _notes(records: Sequence[Record], twice: int, select: Sequence[str]) -> list[str]:
    """What would make a comparison unfair, or a reader believe too much."""
    notes = []
    if twice:
        notes.append(f"{twice} runs lie in several experiments and count once")
    if select:
        notes.append(f"{', '.join(select)} chosen on val, within each row")
    done = [record for record in records if record.state == "finished"]
    for what, versions in _mixtures(done).items():
        if len(versions) > 1:
            said = ", ".join(f"{name} ({n} runs)" for name, n in versions.most_common())
            notes.append(f"a mixture of {what}: {said}")
    splits: dict[tuple[str, ...], set[str]] = {}
    for record in done:
        data = tuple(value for key, value in sorted(record.settings.items()) if key.startswith("data."))
        splits.setdefault(data, set()).add(record.split)
    if any(len(found) > 1 for found in splits.values()):
        notes.append(
            "the same data settings gave different splits: the images themselves differ between runs"
        )
    sizes = {record.figures["data/test"] for record in done if record.figures.get("data/test")}
    best = max((record.figures[DEFAULT] for record in done if DEFAULT in record.figures), default=None)
    if sizes and best is not None:
        n = min(sizes)
        notes.append(
            f"intervals are about other seeds; another {n:.0f} test images would move accuracies "
            f"together, one of {100 * best:.1f} % by ±{100 * _binomial(best, n):.1f} points"
        )
    return notes


def _binomial(share: float, n: float) -> float:
    """Half the width of Wilson's 95 % interval (JASA 22, 1927, p. 209) of a share of n images."""
    z = 1.959964
    return z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))


def _mixtures(done: Sequence[Record]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {
        "cnnbench versions": Counter(),
        "torch versions": Counter(),
        "devices": Counter(),
    }
    for record in done:
        versions, device = record.status.get("versions"), record.status.get("device")
        if isinstance(versions, dict):
            found["cnnbench versions"][str(versions.get("cnnbench"))] += 1
            found["torch versions"][str(versions.get("torch"))] += 1
        if isinstance(device, dict):
            threads = device.get("threads")
            name = f"{device.get('accelerator')}"
            found["devices"][name + (f" with {threads} thread{'s' * (threads != 1)}" * (name == "cpu"))] += 1
    return found
