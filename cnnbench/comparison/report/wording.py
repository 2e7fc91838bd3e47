"""The comparison in words: the phrases that terminal, files and page share."""

from __future__ import annotations

from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.effects import Effect
from cnnbench.comparison.metrics import Figure, figure
from cnnbench.comparison.statistics import CONFIDENCE, Estimate


def score(estimate: Estimate | None, metric: Figure) -> str:
    """Format a mean with its interval: `93.12 [92.80, 93.44]`."""
    if estimate is None:
        return "-"
    text = metric.number(estimate.mean)
    if estimate.low is not None and estimate.high is not None:
        return f"{text} [{metric.number(estimate.low)}, {metric.number(estimate.high)}]"
    return f"{text} [one run]" if estimate.n == 1 else text


def difference(size: Estimate | None, metric: Figure) -> str:
    """Format an effect with its interval: `+1.9 [+1.2, +2.6]`, or `×0.52 [×0.47, ×0.58]`."""
    if size is None:
        return "-"
    text = change(size.mean, metric)
    if size.low is None or size.high is None:
        return text
    return f"{text} [{change(size.low, metric)}, {change(size.high, metric)}]"


def change(value: float, metric: Figure) -> str:
    """Format a difference, `+1.9`, or a ratio, `×0.52`, of a metric."""
    if not metric.ratio:
        return metric.number(value, signed=True)
    return f"×{value:.2f}" if 0.1 <= value < 10 else f"×{value:.3g}"


def p_value(p: float | None) -> str:
    """Format a p-value: `0.013`, or `<0.001`."""
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"


def pairs(effect: Effect) -> str:
    """Count the pairs of an effect, and the lost ones: `18 pairs in 6 families, 2 lost (diverged)`."""
    text = f"{effect.pairs} pair{'s' * (effect.pairs != 1)}"
    if effect.families > 1:
        text += f" in {effect.families} families"
    if effect.lost:
        reasons = sorted(effect.lost.items())
        listed = reasons[0][0] if len(reasons) == 1 else ", ".join(f"{n} {reason}" for reason, n in reasons)
        text += f", {sum(effect.lost.values())} lost ({listed})"
    return text


def sentence(effect: Effect, metric: Figure) -> str:
    """Put an effect in words: `higher: +1.9 [+1.2, +2.6] points, 18 pairs in 6 families, p = 0.013`."""
    phrases = [pairs(effect)]
    if effect.p is not None:
        phrases.append(f"p = {p_value(effect.p)}".replace("= <", "< "))
    if effect.size is not None:
        phrases.insert(0, f"{difference(effect.size, metric)} {metric.points}".strip())
    return f"{verdict(effect, metric)}: {', '.join(phrases)}"


def verdict(effect: Effect, metric: Figure) -> str:
    """Return the conclusion from an effect: `higher`, `lower`, `no difference shown` or why there is none."""
    if effect.size is None or effect.p is None:
        constant = effect.size is not None and effect.size.n > 1
        return "no random variation" if constant else "too few pairs to tell"
    if not effect.shown:
        uncorrected = effect.size.p is not None and effect.size.p < 1 - CONFIDENCE
        correction = f" after correction for {effect.comparisons} comparisons"
        return f"no difference shown{correction * uncorrected}"
    return "higher" if effect.size.mean > metric.null else "lower"


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the cells of the table, rounded for reading."""
    metric, val = comparison.metric, figure(comparison.kind.order)
    also_val = metric.key != val.key
    keys = [key for key in comparison.columns_of_figures if key != metric.key]
    figures = [figure(key) for key in keys if any(row.mean(key) is not None for row in comparison.rows)]
    headers = [axis.removesuffix(".name") for axis in comparison.columns]
    headers += ["n", " ".join(filter(None, (metric.label, metric.unit, "[95 %]")))]
    headers += [" ".join(filter(None, (val.label, val.unit)))] * also_val + [one.label for one in figures]
    rows = []
    for row in comparison.rows:
        cells = [row.settings.get(axis, "-") for axis in comparison.columns]
        cells += [row.n, score(row.score, metric)]
        cells += [val.number(row.val) if row.val is not None else "-"] * also_val
        rows.append([*cells, *(one.shown(row.mean(one.key)) for one in figures)])
    return headers, rows
