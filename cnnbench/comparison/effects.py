"""The effect of each value of an axis against a baseline, from pairs of runs that share everything else.

Two runs are a pair if they differ in this axis alone (and in tuned settings, and in what follows from the
axis); they share the seed. Pairs that differ from each other in nothing but the seed are a stratum. The
effect in a family of architectures is the mean over its strata. The effect over families is the mean over
families, and its interval comes from the variance between families: runs of one family are not independent
evidence about another. For times, speeds and sizes the effect is a ratio, computed from differences of
logarithms: a millisecond is much for a small network and little for a large one.
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
from cnnbench.run_store.find import flat
from cnnbench.run_store.identity import ADDED, LATER
from cnnbench.run_store.select import natural_order

BASELINES = {
    "backend": "eager",
    "ops.norm": "batch",
    "ops.act": "relu",
    "ops.pool": "max",
    "ops.padding": "zeros",
    "data.augment.flip": "false",
    "data.val_fraction": "0.1",
    "trainer.decay_norm_and_bias": "true",
    **flat({section: values for section, values in LATER.items() if ":" not in section} | ADDED),
}
"""The values that most published networks use, and defaults of which natural order would not be the first."""

FAR = 700.0
"""Logarithm of the largest ratio: the interval of only two repeats may exceed the range of floats."""

NO_ABLATION = ("data.name",)
"""Axes without effects: accuracies on different images cannot be subtracted."""


@dataclass(frozen=True)
class Effect:
    """The effect of one value of an axis against the baseline.

    Attributes:
        axis: the setting.
        baseline: the value that it is compared with.
        value: the value.
        family: the family of architectures; empty for a mean over families and for architectures themselves.
        families: the number of families that it is the mean of.
        pairs: the number of pairs of runs.
        lost: the number of pairs without a result, by the state of the run that has none.
        size: value minus baseline, or the ratio of the two (`Figure.ratio`); None without pairs.
        p: the p-value, corrected for multiple comparisons; None if the variance cannot be estimated.
        comparisons: the number of comparisons that it was corrected for.
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
        """True if there is a difference, at a family-wise error rate of 5 %."""
        return self.p is not None and self.p < 1 - CONFIDENCE


Values = dict[str, dict[tuple[str, ...], Configuration]]
"""The configurations with each value of an axis, by their values of the other axes (the stratum)."""


@dataclass
class _Pairs:
    """Differences (of logarithms, for ratios) by family and stratum, and lost pairs by family and reason."""

    differences: dict[str, dict[tuple[str, ...], list[float]]] = field(
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
    """Estimate the effects of all axes, value by value; each first over families, then family by family.

    Args:
        configurations: with the tuned settings chosen.
        axes: the settings that differ.
        select: the tuned ones, which are neither an axis nor need to agree in a pair.
        figure: the compared metric.
        rounding: the standard deviation that rounding gives a single value.
        baselines: the baselines that the user chose, by axis.
        only: the axes to compute; all if empty.
        order: the key of the metric on which the best architecture is chosen as a baseline.
    """
    varied = [axis for axis in axes if axis not in select]
    shown: list[Effect] = []
    unseen: list[Effect] = []
    for axis in varied:
        if axis in NO_ABLATION or (only and axis not in only):
            continue
        others = [other for other in varied if other != axis]
        values = _by_value(configurations, axis, others)
        baseline = baselines.get(axis) or usual_baseline(axis, values)
        rivals: list[tuple[str, str]] = []
        if baseline is None and _without(values, order):
            baseline = natural_order(values)[0]
        elif baseline is None:
            baseline = best_value(values, order)
            rivals = list(combinations(natural_order(values.keys() - {baseline}), 2))
        for value in natural_order(values.keys() - {baseline}):
            shown += _estimates(values, axis, baseline, value, figure, rounding)
        for first, second in rivals:
            unseen += _estimates(values, axis, first, second, figure, rounding)
    chosen = {effect.axis for effect in unseen}
    usual = _corrected([effect for effect in shown if effect.axis not in chosen])
    corrected = usual | _corrected([*unseen, *(effect for effect in shown if effect.axis in chosen)])
    return [corrected[id(effect)] for effect in shown]


def _by_value(configurations: Sequence[Configuration], axis: str, others: Sequence[str]) -> Values:
    values: Values = {}
    for configuration in configurations:
        settings = configuration.settings
        if axis in settings:
            stratum = tuple(settings.get(other, "-") for other in others)
            values.setdefault(settings[axis], {})[stratum] = configuration
    return values


def usual_baseline(axis: str, values: Collection[str]) -> str | None:
    """Return the default baseline of an axis.

    It is `native`, or a value of `BASELINES`, else the first value in natural order: off, or the smallest
    number. None for architectures, optimizers and schedules, which have no usual choice; see
    `best_value`.
    """
    for usual in ("native", BASELINES.get(axis)):
        if usual in values:
            return usual
    return None if axis.endswith(".name") else natural_order(values)[0]


def _without(values: Values, order: str) -> bool:
    """Return whether no run has a metric, so that no value is the best, as none is without val images."""
    return all(one.mean(order) is None for strata in values.values() for one in strata.values())


def best_value(values: Values, order: str = VAL) -> str:
    """Return the best value of an axis among those that can be paired with the most other values.

    Args:
        values: the configurations of each value, by stratum.
        order: the key of the metric that decides: val accuracy for trained runs.
    """
    sign = 1 if figure_of(order).higher else -1

    def quality(value: str) -> tuple[int, float]:
        configurations = values[value].values()
        means = [sign * mean for one in configurations if (mean := one.mean(order)) is not None]
        partners = sum(bool(values[value].keys() & strata.keys()) for strata in values.values())
        return partners, fmean(means or [-inf])

    return max(natural_order(values), key=quality)


def _pairs(values: Values, axis: str, baseline: str, value: str, figure: Figure) -> _Pairs:
    pairs = _Pairs()
    for stratum, right in values[value].items():
        if (base := values[baseline].get(stratum)) is None:
            continue
        # Architectures that are compared with each other have no common family.
        family = "" if axis == "arch.name" else right.family
        before, after = (_scaled(one.by_seed(figure.key), figure) for one in (base, right))
        states = [{record.seed: record.state for record in one.records} for one in (base, right)]
        for seed in states[0].keys() & states[1].keys():
            if seed in before and seed in after:
                pairs.differences[family][stratum].append(after[seed] - before[seed])
            else:
                missing = states[0][seed] if seed not in before else states[1][seed]
                why = f"without {figure.key}" if missing == "finished" else missing
                pairs.lost[family][why] += 1
    return pairs


def _estimates(
    values: Values, axis: str, baseline: str, value: str, figure: Figure, rounding: float
) -> list[Effect]:
    """Estimate the effect over families, if there are several, and in each family."""
    pairs = _pairs(values, axis, baseline, value, figure)
    # The variances of two rounded values add up in their difference.
    spread = rounding * 2**0.5
    effects, means = [], []
    for family in sorted({*pairs.differences, *pairs.lost}):
        strata = list(pairs.differences.get(family, {}).values())
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
    """Return the values to subtract: for a ratio the logarithms of those that are positive."""
    if not figure.ratio:
        return dict(values)
    return {seed: log(value) for seed, value in values.items() if value > 0}


def _shown(size: Estimate | None, figure: Figure) -> Estimate | None:
    """Turn logarithms back into ratios; cut intervals of shares at the 100 points that they can differ by."""
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
    """Apply Holm's correction to the main effects and, separately, to those within families; return by id.

    The main effect of a value is the one over families or, if there is a single family or none (architectures
    themselves), that one. If the baseline was chosen for its results, `effects` must contain all pairs of
    values: the baseline is an extreme one, so each pair counts as a comparison.
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
