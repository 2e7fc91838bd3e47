"""The comparison in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.comparison.comparison import Comparison
from cnnbench.comparison.effects import Effect
from cnnbench.comparison.metrics import Figure, figure
from cnnbench.comparison.report import wording
from cnnbench.comparison.report.plain import methods_of
from cnnbench.run_store import table as run_store_table

CONSTANT = 12
"""Constant settings that are listed."""

AXES = 6
"""Axes that have a column of their own each."""

MACHINE = ("backend", "device.model", "device.precision", "device.threads")
"""What a time depends on, besides the model."""

ROOM = 400
"""Letters of the settings of a configuration with more axes than that."""

PROBLEMS = 8
"""Files that are named one by one."""


def picture(found: Comparison, title: str = "", *, methods: bool = True) -> Group:
    """Title, constant settings, table, effects, and what a reader must know beside them."""
    parts: list[RenderableType] = [heading(found, title)]
    if found.constant:
        parts.append(Text(constant(found.constant), "dim"))
    parts.append(rows_table(found))
    for axis, effects in groupby(found.effects, lambda effect: (effect.axis, effect.baseline)):
        parts.append(effects_table(found.metric, *axis, list(effects)))
    parts += [Text(console.legible(f"· {note}", 600), "dim") for note in found.notes]
    if methods and any(row.score is not None for row in found.rows):
        parts += [Text(f"· {method}", "dim") for method in methods_of(found)]
    parts += problems(found.problems)
    return Group(*parts)


def heading(found: Comparison, title: str) -> Text:
    """`54 runs in outputs/x: 51 finished, 2 diverged, 1 failed`."""
    states = found.states
    total = states.total()
    where = f" in {console.legible(title, 200)}" if title else ""
    text = Text(f"{total} run{'s' * (total != 1)}{where}: ", "bold")
    for i, state in enumerate(sorted(states, key=lambda state: (state != "finished", state))):
        text.append(", " * bool(i))
        text.append(f"{states[state]} {state}", run_store_table.COLOURS.get(state, ""))
    return text


def constant(settings: Mapping[str, str]) -> str:
    """The settings that are the same everywhere: the names of the choices first, and as many as are read."""
    keys = sorted(settings, key=_weight)
    texts = [f"{key.removesuffix('.name')}={console.legible(settings[key], 30)}" for key in keys[:CONSTANT]]
    more = f"  and {len(keys) - CONSTANT} more (--json)" * (len(keys) > CONSTANT)
    return f"all: {'  '.join(texts)}{more}"


def _weight(key: str) -> tuple[int, str]:
    sections = ("backend", "arch", "data", "ops", "trainer", "optimizer", "scheduler")
    section = key.partition(".")[0]
    first = 0 if key.endswith(".name") or key in MACHINE else 1
    return first * 10 + (sections.index(section) if section in sections else len(sections)), key


def rows_table(found: Comparison) -> Table:
    """A row a configuration; axes that leave no room for the figures share a column."""
    headers, rows = wording.table(found)
    n, least = len(found.columns), 2 + (found.metric.key != found.kind.order)  # n, the metric, val
    order = figure(found.options.sort or found.kind.order).label
    what = "value" if found.options.by else "configuration"
    title = f"{len(rows)} {what}{'s' * (len(rows) != 1)}, by {order}"
    table = console.fitting(headers, _marked(rows, n), n, title, least=least)
    if n == 1 or (n <= AXES and console.fits(table)):
        return table
    labels = [
        console.legible(
            "  ".join(f"{k}={v}" for k, v in zip(headers, texts[:n], strict=False) if v != "-"), ROOM
        )
        for texts in rows
    ]
    rows = [[label, *texts[n:]] for label, texts in zip(labels, rows, strict=True)]
    headers = ["configuration", *headers[n:]]
    return console.fitting(headers, _marked(rows, 1), 1, title, fold=console.out.width // 2, least=least)


def _marked(rows: Sequence[Sequence[str]], labels: int) -> list[list[str | Text]]:
    """Rows in which a number of runs that is not all of them stands out."""
    return [
        [
            *texts[:labels],
            Text(texts[labels], "yellow" if " of " in texts[labels] else ""),
            *texts[labels + 1 :],
        ]
        for texts in rows
    ]


def effects_table(metric: Figure, axis: str, baseline: str, effects: Sequence[Effect]) -> Table:
    """The values of one axis against its baseline, over families and family by family."""
    title = Text(
        console.legible(f"{axis.removesuffix('.name')}: {metric.label} against {baseline}", 100), "bold"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("value")
    what = "ratio [95 %]" if metric.ratio else "difference [95 %]"
    table.add_column(" ".join(filter(None, (what, metric.points))), justify="right")
    table.add_column("pairs")
    table.add_column("p", justify="right")
    table.add_column("")
    over = {effect.value for effect in effects if effect.families > 1}
    for effect in effects:
        inner = effect.families == 1 and effect.value in over
        where = f" in {effect.family}" * bool(effect.family)
        label = f"  {effect.family}" if inner else effect.value + where
        table.add_row(
            Text(console.legible(label), "dim" if inner else "bold"),
            wording.difference(effect.size, metric),
            wording.pairs(effect),
            wording.p_value(effect.p),
            Text(wording.verdict(effect, metric), _colour(effect, metric)),
        )
    return table


def _colour(effect: Effect, metric: Figure) -> str:
    if not effect.shown or effect.size is None:
        return "dim"
    return "bold green" if (effect.size.mean > metric.null) == metric.higher else "bold red"


def problems(said: Sequence[str]) -> list[RenderableType]:
    """Files that are not what they should be."""
    lines: list[RenderableType] = [Text(console.legible(text, 300), "yellow") for text in said[:PROBLEMS]]
    if len(said) > PROBLEMS:
        lines.append(Text(f"and {len(said) - PROBLEMS} more files (--json names them all)", "yellow"))
    return lines
