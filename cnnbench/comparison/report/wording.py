"""The comparison in words: what terminal, files and page say in the same way."""

from __future__ import annotations

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.effects import Effect
from cnnbench.comparison.metrics import Figure, figure
from cnnbench.comparison.statistics import CONFIDENCE, Estimate


def score(one: Estimate | None, metric: Figure) -> str:
    """`93.12 [92.80, 93.44]`."""
    if one is None:
        return "-"
    text = metric.number(one.mean)
    if one.low is not None and one.high is not None:
        return f"{text} [{metric.number(one.low)}, {metric.number(one.high)}]"
    return f"{text} [one run]" if one.n == 1 else text


def difference(size: Estimate | None, metric: Figure) -> str:
    """`+1.9 [+1.2, +2.6]`, or `×0.52 [×0.47, ×0.58]`."""
    if size is None:
        return "-"
    text = change(size.mean, metric)
    if size.low is None or size.high is None:
        return text
    return f"{text} [{change(size.low, metric)}, {change(size.high, metric)}]"


def change(value: float, metric: Figure) -> str:
    """`+1.9`, or `×0.52` of what is compared by its ratio."""
    if not metric.ratio:
        return metric.number(value, signed=True)
    return f"×{value:.2f}" if 0.1 <= value < 10 else f"×{value:.3g}"


def p_value(p: float | None) -> str:
    """`0.013`, or `<0.001`."""
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"


def pairs(effect: Effect) -> str:
    """`18 pairs in 6 families, without 2 (diverged)`."""
    text = f"{effect.pairs} pair{'s' * (effect.pairs != 1)}"
    if effect.families > 1:
        text += f" in {effect.families} families"
    if effect.lost:
        text += ", without " + ", ".join(f"{n} {state}" for state, n in sorted(effect.lost.items()))
    return text


def sentence(effect: Effect, metric: Figure) -> str:
    """`higher: +1.9 [+1.2, +2.6] points, 18 pairs in 6 families`."""
    said = [pairs(effect)]
    if effect.p is not None:
        said.append(f"p = {p_value(effect.p)}".replace("= <", "< "))
    if effect.size is not None:
        said.insert(0, f"{difference(effect.size, metric)} {metric.points}".strip())
    return f"{verdict(effect, metric)}: {', '.join(said)}"


def verdict(effect: Effect, metric: Figure) -> str:
    """What may be said."""
    if effect.size is None or effect.p is None:
        same = effect.size is not None and effect.size.n > 1
        return "the same in each pair" if same else "too few pairs to tell"
    if not effect.shown:
        alone = effect.size.p is not None and effect.size.p < 1 - CONFIDENCE
        return "no difference shown" + f" among {effect.comparisons} comparisons" * alone
    return "higher" if effect.size.mean > metric.null else "lower"


def table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of the table, rounded for people."""
    metric, val = found.metric, figure(found.kind.order)
    also_val = metric.key != val.key
    there = [key for key in found.columns_of_figures if key != metric.key]
    figures = [figure(key) for key in there if any(row.mean(key) is not None for row in found.rows)]
    headers = [axis.removesuffix(".name") for axis in found.columns]
    headers += ["n", " ".join(filter(None, (metric.label, metric.unit, "[95 %]")))]
    headers += [" ".join(filter(None, (val.label, val.unit)))] * also_val + [one.label for one in figures]
    rows = []
    for row in found.rows:
        cells = [row.settings.get(axis, "-") for axis in found.columns]
        cells += [row.n, score(row.score, metric)]
        cells += [val.number(row.val) if row.val is not None else "-"] * also_val
        rows.append([*cells, *(one.shown(row.mean(one.key)) for one in figures)])
    return headers, rows
