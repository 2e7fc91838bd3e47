"""Forest plots of the effects, one per axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.effects import Effect
from cnnbench.comparison.metrics import Figure
from cnnbench.comparison.report.plots.picture import Picture
from cnnbench.pages.plot_style import logarithmic, slug

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pictures(comparison: Comparison) -> Iterator[Picture]:
    """Yield a forest plot for each axis and baseline: over all families, and each family."""
    for (axis, baseline), group in groupby(comparison.effects, lambda effect: (effect.axis, effect.baseline)):
        effects = [effect for effect in group if effect.size is not None]
        if effects:
            size = (5.5, 0.8 + 0.24 * len(effects))
            yield f"effect-{slug(axis)}", size, _forest(comparison.metric, axis, baseline, effects)


def _forest(metric: Figure, axis: str, baseline: str, effects: Sequence[Effect]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        names = []
        for i, effect in enumerate(effects):
            assert effect.size is not None
            wide = effect.families > 1
            colour = "#0072b2" if effect.shown else "#7f7f7f"
            if effect.size.low is not None and effect.size.high is not None:
                ends = [metric.scale * effect.size.low, metric.scale * effect.size.high]
                axes.plot(ends, [i, i], color=colour, lw=2.2 if wide else 1.2)
            mean = metric.scale * effect.size.mean
            axes.plot(mean, i, "D" if wide else "o", color=colour, ms=6 if wide else 4)
            where = "all families" if wide else effect.family
            names.append(console.legible(f"{effect.value} ({where})" if where else effect.value, 40))
        axes.axvline(metric.scale * metric.null, color="black", lw=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        if metric.ratio:
            logarithmic(axes, "x")
            axes.set_xlim(*_room(effects))
        unit = ", ratio" if metric.ratio else f", {metric.points}" if metric.points else ""
        against = console.legible(f"{axis.removesuffix('.name')}={baseline}", 40)
        axes.set(xlabel=f"{metric.label} against {against}{unit} [95 %]")

    return draw


def _room(effects: Sequence[Effect]) -> tuple[float, float]:
    """Return limits that show all ratios; very wide intervals are cut, to leave room for the rest."""
    sizes = [effect.size for effect in effects if effect.size is not None]
    means = [size.mean for size in sizes]
    ends = [end for size in sizes for end in (size.low, size.high) if end is not None]
    reach = max(10.0, max(means) / min(means))
    low, high = (
        max(min([1, *means, *ends]), min(means) / reach),
        min(max([1, *means, *ends]), max(means) * reach),
    )
    return 0.9 * min(low, 1), 1.1 * max(high, 1)
