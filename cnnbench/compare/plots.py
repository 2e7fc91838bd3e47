"""The comparison as pictures for a paper: PNG and SVG, by matplotlib."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from cnnbench import ui
from cnnbench.compare.comparison import Comparison
from cnnbench.compare.effects import Effect
from cnnbench.compare.figures import Figure, figure
from cnnbench.compare.rows import Row
from cnnbench.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's, which people with colour blindness tell apart."""

MARKERS = "osD^vPX*"
BEST = 8
"""Configurations whose learning curves are drawn."""


def installed() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def check(folder: str) -> None:
    """To be called before anything is computed.

    Raises:
        InputError: no folder, or matplotlib is not installed.
    """
    if not folder:
        raise InputError("--plots: no name of a folder; allowed: a folder")
    if not installed():
        raise InputError("--plots: needs matplotlib; run `pip install 'cnnbench[plots]'`")


def write(found: Comparison, folder: Path) -> list[Path]:
    """Draw what there is to draw, each picture as PNG (300 dpi) and as SVG.

    Returns:
        The PNG files.

    Raises:
        OSError: a file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    folder.mkdir(parents=True, exist_ok=True)
    style: Any = {
        "font.size": 9,
        "text.parse_math": False,  # a dollar sign in a name is a dollar sign
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "cnnbench",  # the same comparison gives the same file
    }
    written = []
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in the PNG; the SVG has the text
        for name, size, draw in _pictures(found):
            canvas = Canvas(figsize=size, layout="constrained")
            draw(canvas.add_subplot())
            for suffix, options in ((".png", {"dpi": 300}), (".svg", {"metadata": {"Date": None}})):
                canvas.savefig(folder / f"{name}{suffix}", **options)
            written.append(folder / f"{name}.png")
    return written


Picture = tuple[str, tuple[float, float], Callable[["Axes"], None]]


def _pictures(found: Comparison) -> Iterator[Picture]:
    scored = [row for row in found.rows if row.score is not None]
    for key in ("params", "macs", "time/wall_s"):
        rows = [row for row in scored if row.mean(key)]
        if len(rows) > 1:
            yield (
                f"{_slug(found.metric.label)}-{_slug(figure(key).label)}",
                (5.5, 3.6),
                _scatter(found, rows, key),
            )
    for (axis, baseline), group in groupby(found.effects, lambda effect: (effect.axis, effect.baseline)):
        effects = [effect for effect in group if effect.size is not None]
        if effects:
            size = (5.5, 0.8 + 0.24 * len(effects))
            yield f"effect-{_slug(axis)}", size, _forest(found.metric, axis, baseline, effects)
    if scored:
        yield "learning-curves", (5.5, 3.6), _curves(found, scored[:BEST])


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text.removesuffix(".name"))


def _label(row: Row) -> str:
    return ui.legible(" ".join(row.settings.values()), 48)


def _scatter(found: Comparison, rows: Sequence[Row], key: str) -> Callable[[Axes], None]:
    metric, cost = found.metric, figure(key)

    def draw(axes: Axes) -> None:
        families = sorted({row.members[0].family for row in rows})
        for i, family in enumerate(families):
            part = [row for row in rows if row.members[0].family == family]
            x: Any = [row.mean(key) for row in part]
            y = [_at(metric, row) for row in part]
            axes.errorbar(
                x, [mean for mean, _, _ in y], [[m - low for m, low, _ in y], [high - m for m, _, high in y]],
                fmt=MARKERS[i % len(MARKERS)], color=COLOURS[i % len(COLOURS)], ms=5, lw=0.8,
                label=ui.legible(family, 40),
            )  # fmt: skip
        from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

        axes.set(xscale="log", xlabel=_title(cost), ylabel=_title(metric))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(frameon=False, fontsize=8)

    return draw


def _at(metric: Figure, row: Row) -> tuple[float, float, float]:
    """Mean and interval as shown; a point where nothing tells the spread."""
    assert row.score is not None
    one = row.score
    low, high = (one.mean if end is None else end for end in (one.low, one.high))
    return metric.scale * one.mean, metric.scale * low, metric.scale * high


def _title(metric: Figure) -> str:
    return " ".join(filter(None, (ui.legible(metric.label), metric.unit)))


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
            names.append(ui.legible(f"{effect.value} ({where})" if where else effect.value, 40))
        axes.axvline(0, color="black", lw=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        unit = f", {metric.points}" if metric.points else ""
        against = ui.legible(f"{axis.removesuffix('.name')}={baseline}", 40)
        axes.set(xlabel=f"{metric.label} against {against}{unit} [95 %]")

    return draw


def _curves(found: Comparison, rows: Sequence[Row]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        for i, row in enumerate(rows):
            runs = [
                [100 * one["val/acc"] for one in record.run.rows() if "val/acc" in one]
                for record in row.records
            ]
            length = max(map(len, runs), default=0)
            at = [[run[epoch] for run in runs if epoch < len(run)] for epoch in range(length)]
            epochs: Any = range(length)
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(epochs, [fmean(values) for values in at], color=colour, lw=1.4, label=_label(row))
            axes.fill_between(
                epochs, [min(values) for values in at], [max(values) for values in at],
                color=colour, alpha=0.12, lw=0,
            )  # fmt: skip
        axes.set(xlabel="epoch (from 0)", ylabel="val accuracy %")
        axes.legend(frameon=False, fontsize=7)

    return draw
