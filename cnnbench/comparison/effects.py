"""What each value of an axis does against a baseline, paired by everything else.

Two runs are a pair if they differ in this axis alone (and in what is tuned, and in what follows from the
axis). Pairs that differ from each other in nothing but the seed are a stratum. The effect in a family of
architectures is the mean over its strata; the effect over families is the mean over families, and its
interval comes from how much families differ: runs of one family are not independent evidence of another.
Of times, speeds and sizes it is the ratio, by the difference of the logarithms: a millisecond is much for a
small network and little for a large one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import exp, inf, log
from statistics import fmean

from cnnbench.comparison.configurations import Configuration
from cnnbench.comparison.metrics import VAL, Figure
from cnnbench.comparison.metrics import figure as figure_of
from cnnbench.comparison.statistics import CONFIDENCE, Estimate, estimate, holm
from cnnbench.run_store.select import natural_order

BASELINES = {
    "backend": "eager",
    "ops.norm": "batch",
    "ops.act": "relu",
    "ops.pool": "max",
    "ops.padding": "zeros",
}
"""What most published networks do."""

FAR = 700.0
"""Logarithm of the greatest ratio: two repeats alone may have an interval beyond all numbers."""

NO_ABLATION = ("data.name",)
"""Accuracies on different images cannot be subtracted."""


@dataclass(frozen=True)
class Effect:
    """A value of an axis against the baseline.

    Attributes:
        family: of architectures; empty for the mean over families.
        families: how many families it is the mean of.
        pairs: of runs.
        lost: pairs without a figure, by the state of the run that has none.
        size: value minus baseline, or the ratio of the two (`Figure.ratio`).
        p: corrected for the number of comparisons; None if nothing tells the spread.
        comparisons: that it was corrected for.
    """

    axis: str
    baseline: str
    value: str
    family: str
    families: int
    pairs: int
    lost: Mapping[str, int]
    size: Estimate | None
    p: float | None = None
    comparisons: int = 1

    @property
    def shown(self) -> bool:
        """Whether there is a difference, at an error rate of 5 % over all comparisons."""
        return self.p is not None and self.p < 1 - CONFIDENCE


Values = dict[str, dict[tuple[str, ...], Configuration]]
"""The configurations with each value of an axis, by what is around it."""


@dataclass
class _Pairs:
    """Differences (of logarithms, where the ratio counts) by family and stratum, and what has none."""

    found: dict[str, dict[tuple[str, ...], list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    lost: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


def effects(
    configurations: Sequence[Configuration],
    axes: Sequence[str],
    select: Sequence[str],
    figure: Figure,
    rounding: float,
    baselines: Mapping[str, str],
    only: Sequence[str] = (),
    order: str = VAL,
) -> list[Effect]:
    """The effects of all axes, baseline by baseline; over families first, then family by family.

    Args:
        configurations: with the tuned settings chosen.
        axes: the settings that differ.
        select: those that are tuned: neither an axis nor part of what makes a pair.
        figure: what is compared.
        rounding: the standard deviation that rounding gives a single value.
        baselines: values that were asked for, by axis.
        only: axes to look at; all if there is none.
        order: the figure that tells the best architecture.
    """
    varied = [axis for axis in axes if axis not in select]
    found: list[Effect] = []
    unseen: list[Effect] = []
    for axis in varied:
        if axis in NO_ABLATION or (only and axis not in only):
            continue
        others = [other for other in varied if other != axis]
        values = _by_value(configurations, axis, others)
        baseline = baselines.get(axis) or usual_baseline(axis, values)
        rivals: list[tuple[str, str]] = []
        if baseline is None:
            baseline = best_value(values, order)
            rivals = list(combinations(natural_order(values.keys() - {baseline}), 2))
        for value in natural_order(values.keys() - {baseline}):
            found += _estimates(values, axis, baseline, value, figure, rounding)
        for one, other in rivals:
            unseen += _estimates(values, axis, one, other, figure, rounding)
    chosen = {effect.axis for effect in unseen}
    usual = _corrected([effect for effect in found if effect.axis not in chosen])
    corrected = usual | _corrected([*unseen, *(effect for effect in found if effect.axis in chosen)])
    return [corrected[id(effect)] for effect in found]


def _by_value(configurations: Sequence[Configuration], axis: str, others: Sequence[str]) -> Values:
    found: Values = {}
    for one in configurations:
        if axis in one.settings:
            stratum = tuple(one.settings.get(other, "-") for other in others)
            found.setdefault(one.settings[axis], {})[stratum] = one
    return found


def usual_baseline(axis: str, values: Collection[str]) -> str | None:
    """What an axis is measured against unless something else is asked for.

    `native`, or what most networks do, else the first value: off, or the smallest. None for architectures,
    optimizers and schedules, of which none is the usual one; see `best_value`.
    """
    for usual in ("native", BASELINES.get(axis)):
        if usual in values:
            return usual
    return None if axis.endswith(".name") else natural_order(values)[0]


def best_value(values: Values, order: str = VAL) -> str:
    """The best value of an axis (on val), of those that most others can be paired with.

    Args:
        values: the configurations of each, by stratum.
        order: the figure that tells.
    """
    sign = 1 if figure_of(order).higher else -1

    def quality(value: str) -> tuple[int, float]:
        means = [sign * mean for one in values[value].values() if (mean := one.mean(order)) is not None]
        partners = sum(bool(values[value].keys() & strata.keys()) for strata in values.values())
        return partners, fmean(means or [-inf])

    return max(natural_order(values), key=quality)


def _pairs(values: Values, axis: str, baseline: str, value: str, figure: Figure) -> _Pairs:
    pairs = _Pairs()
    for stratum, right in values[value].items():
        if (base := values[baseline].get(stratum)) is None:
            continue
        # Architectures against each other are in no common family.
        family = "" if axis == "arch.name" else right.family
        before, after = (_scaled(one.by_seed(figure.key), figure) for one in (base, right))
        states = [{record.seed: record.state for record in one.records} for one in (base, right)]
        for seed in states[0].keys() & states[1].keys():
            if seed in before and seed in after:
                pairs.found[family][stratum].append(after[seed] - before[seed])
            else:
                missing = states[0][seed] if seed not in before else states[1][seed]
                why = f"without {figure.key}" if missing == "finished" else missing
                pairs.lost[family][why] += 1
    return pairs


def _estimates(
    values: Values, axis: str, baseline: str, value: str, figure: Figure, rounding: float
) -> list[Effect]:
    """Over families if there are several, and by family."""
    pairs = _pairs(values, axis, baseline, value, figure)
    # The difference of two rounded values: their roundings add up.
    spread = rounding * 2**0.5
    effects, means = [], []
    for family in sorted({*pairs.found, *pairs.lost}):
        strata = list(pairs.found.get(family, {}).values())
        count = sum(map(len, strata))
        size = estimate(strata, spread) if strata else None
        means += [size.mean] if size is not None else []
        effects.append(
            Effect(axis, baseline, value, family, 1, count, pairs.lost[family], _shown(size, figure))
        )
    if len(effects) < 2:
        return effects or [Effect(axis, baseline, value, "", 0, 0, {}, None)]
    lost = sum(pairs.lost.values(), Counter[str]())
    count = sum(effect.pairs for effect in effects)
    over = _shown(estimate([means]) if means else None, figure)
    return [Effect(axis, baseline, value, "", len(means), count, lost, over), *effects]


def _scaled(values: Mapping[str, float], figure: Figure) -> dict[str, float]:
    """What is subtracted; of a ratio the logarithms, which what is not positive has none of."""
    if not figure.ratio:
        return dict(values)
    return {seed: log(value) for seed, value in values.items() if value > 0}


def _shown(size: Estimate | None, figure: Figure) -> Estimate | None:
    """Ratios for logarithms; of shares no more than the 100 points that they can differ by."""
    if size is None:
        return None
    low, high = size.low, size.high
    if figure.ratio:
        mean, low, high = (None if x is None else exp(min(x, FAR)) for x in (size.mean, low, high))
        assert mean is not None
        return replace(size, mean=mean, low=low, high=high)
    if not figure.share or low is None or high is None:
        return size
    return replace(size, low=max(-1.0, low), high=min(1.0, high))


def _corrected(effects: Sequence[Effect]) -> dict[int, Effect]:
    """Holm's correction, of the effects over families among each other, and of those within families; by id.

    Where an axis has one family, or none (architectures themselves), that is its main comparison. Where the
    baseline was chosen for its results, `effects` has all pairs of values: it is the extreme one of them, and
    each pair counts as a comparison.
    """
    main = {(e.axis, e.baseline, e.value): e for e in reversed(effects)}  # the first of each
    kinds = [[e for e in effects if main[e.axis, e.baseline, e.value] is e], []]
    kinds[1] = [e for e in effects if main[e.axis, e.baseline, e.value] is not e]
    corrected: dict[int, Effect] = {}
    for kind in kinds:
        raw = [e.size.p if e.size is not None else None for e in kind]
        count = sum(p is not None for p in raw)
        corrected |= {id(e): replace(e, p=p, comparisons=count) for e, p in zip(kind, holm(raw), strict=True)}
    return corrected
