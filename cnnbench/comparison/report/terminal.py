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
"""The number of constant settings that are listed."""

AXES = 6
"""The largest number of axes that have a column each."""

MACHINE = ("backend", "device.model", "device.precision", "device.threads")
"""The settings that times depend on, besides the model."""

ROOM = 400
"""The largest number of characters of a configuration's settings if they share one column."""

PROBLEMS = 8
"""The number of damaged files that are listed one by one."""


def picture(comparison: Comparison, title: str = "", *, methods: bool = True) -> Group:
    """Render a comparison: heading, constant settings, table, effects, notes, methods and problems.

    Args:
        comparison: the comparison.
        title: what is compared, for the heading.
        methods: whether to name the statistical methods.
    """
    blocks: list[RenderableType] = [heading(comparison, title)]
    if comparison.constant:
        blocks.append(Text(constant(comparison.constant), "dim"))
    blocks.append(rows_table(comparison))
    for axis, effects in groupby(comparison.effects, lambda effect: (effect.axis, effect.baseline)):
        blocks.append(effects_table(comparison.metric, *axis, list(effects)))
    blocks += [Text(console.legible(f"· {text}", 600), "bold") for text in comparison.findings]
    blocks += [Text(console.legible(f"· {note}", 600), "dim") for note in comparison.notes]
    if methods and any(row.score is not None for row in comparison.rows):
        blocks += [Text(f"· {method}", "dim") for method in methods_of(comparison)]
    blocks += problems(comparison.problems)
    return Group(*blocks)


def heading(comparison: Comparison, title: str) -> Text:
    """Return the number of runs in each state: `54 runs in outputs/x: 51 finished, 2 diverged, 1 failed`."""
    states = comparison.states
    total = states.total()
    where = f" in {console.legible(title, 200)}" if title else ""
    text = Text(f"{total} run{'s' * (total != 1)}{where}: ", "bold")
    for i, state in enumerate(sorted(states, key=lambda state: (state != "finished", state))):
        text.append(", " * bool(i))
        text.append(f"{states[state]} {state}", run_store_table.COLOURS.get(state, ""))
    return text


def constant(settings: Mapping[str, str]) -> str:
    """List settings that are the same everywhere, the names of the choices first; long lists are cut."""
    keys = sorted(settings, key=_weight)
    texts = [f"{key.removesuffix('.name')}={console.legible(settings[key], 30)}" for key in keys[:CONSTANT]]
    more = f"  and {len(keys) - CONSTANT} more (--json)" * (len(keys) > CONSTANT)
    return f"all runs: {'  '.join(texts)}{more}"


def _weight(key: str) -> tuple[int, str]:
    """Return a sort key that puts what matters most first."""
    sections = ("backend", "arch", "data", "ops", "trainer", "optimizer", "scheduler")
    section = key.partition(".")[0]
    first = 0 if key.endswith(".name") or key in MACHINE else 1
    return first * 10 + (sections.index(section) if section in sections else len(sections)), key


def rows_table(comparison: Comparison) -> Table:
    """Build the table of rows; axes share one column if they leave no room for the metrics."""
    headers, rows = wording.table(comparison)
    n, least = (
        len(comparison.columns),
        2 + (comparison.metric.key != comparison.kind.order),
    )  # n, the metric, val
    unit = "value" if comparison.options.by else "configuration"
    title = f"{len(rows)} {unit}{'s' * (len(rows) != 1)}"
    if comparison.sorted_by:
        title += f", sorted by {figure(comparison.sorted_by).label}"
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
    """Highlight numbers of runs such as `2 of 3`, where some have no result."""
    return [
        [
            *texts[:labels],
            Text(texts[labels], "yellow" if " of " in texts[labels] else ""),
            *texts[labels + 1 :],
        ]
        for texts in rows
    ]


def effects_table(metric: Figure, axis: str, baseline: str, effects: Sequence[Effect]) -> Table:
    """Build the table of one axis: each value against the baseline, over families and family by family."""
    title = Text(
        console.legible(f"{axis.removesuffix('.name')}: {metric.label} against {baseline}", 100), "bold"
    )
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("value")
    size = "ratio [95 %]" if metric.ratio else "difference [95 %]"
    table.add_column(" ".join(filter(None, (size, metric.points))), justify="right")
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


def problems(texts: Sequence[str]) -> list[RenderableType]:
    """List damaged files; long lists are cut."""
    lines: list[RenderableType] = [Text(console.legible(text, 300), "yellow") for text in texts[:PROBLEMS]]
    if len(texts) > PROBLEMS:
        lines.append(Text(f"and {len(texts) - PROBLEMS} more file problems (see --json)", "yellow"))
    return lines
