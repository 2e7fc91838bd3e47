"""What people see in the terminal: one console and the tables of runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from cnnbench.runs import Run

console = Console(stderr=True)
"""Progress and notes; results go to `out`, so that they can be piped."""

out = Console() if sys.stdout.isatty() else Console(width=120)

COLOURS = {
    "finished": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": "red",
    "diverged": "magenta",
}


def percent(value: Any) -> str:
    """0.98765 as `98.77 %`; `-` for what is missing."""
    return f"{100 * value:.2f} %" if isinstance(value, (int, float)) else "-"


def count(value: Any) -> str:
    """1234567 as `1.23 M`."""
    if not isinstance(value, (int, float)):
        return "-"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def duration(seconds: Any) -> str:
    """75.3 as `1:15 min`, 4.2 as `4.2 s`."""
    if not isinstance(seconds, (int, float)):
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def run_table(run: Run) -> Table:
    """One run: what came out, and where it lies."""
    summary, state = run.summary(), run.state
    table = Table(title=str(run.path.name), show_header=False, title_justify="left", min_width=60)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("state", Text(state, COLOURS.get(state, "")))
    if error := run.status().get("error"):
        table.add_row("reason", Text(f"{error['type']}: {error['message']}"[:400]))
    if "best/epoch" in summary:
        table.add_row("best epoch", f"{summary['best/epoch']} of {summary['epochs']}")
        table.add_row(
            "val accuracy", percent(summary["best/val_acc"]) + f"   (loss {summary['best/val_loss']:.4f})"
        )
    if "test/acc" in summary:
        table.add_row("test accuracy", f"{percent(summary['test/acc'])}   (loss {summary['test/loss']:.4f}, "
                      f"top-5 {percent(summary['test/top5'])})")  # fmt: skip
    if "params" in summary:
        table.add_row("parameters", f"{summary['params']:,}   ({count(summary.get('macs'))} MACs an image)")
    if "time/wall_s" in summary:
        speed = f"   ({count(summary['time/images_per_s'])} images/s in training)"
        table.add_row("wall time", duration(summary["time/wall_s"]) + speed)
    table.add_row("lies in", str(run.path))
    table.add_row("show again", f"cnnbench runs {run.path}")
    return table


def runs_table(runs: Iterable[Run]) -> Table:
    """Many runs, a row each, in the order given; unfinished and failed ones are shown too."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("epochs", "val acc", "test acc", "wall time"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        summary, state = run.summary(), run.state
        table.add_row(
            run.path.name,
            Text(state, COLOURS.get(state, "")),
            str(summary.get("epochs", "-")),
            percent(summary.get("best/val_acc")),
            percent(summary.get("test/acc")),
            duration(summary.get("time/wall_s")),
        )
    return table


def comparison(runs: Sequence[Run], title: str) -> Table:
    """Configurations against each other: a row for runs that differ in nothing but the seed.

    The settings that differ are the columns. Accuracies are means over the finished runs with the
    sample's standard deviation; `n` says how many finished, of how many there are. Best val first.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    choices = {run: _flat(run.config()) for run in runs}
    groups: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run, choice in choices.items():
        groups.setdefault(tuple(sorted((k, v) for k, v in choice.items() if k != "seed")), []).append(run)
    axes = _axes([dict(group) for group in groups])
    for name in axes or ["arch"]:
        table.add_column(name.removesuffix(".name"), no_wrap=True)
    for name in ("n", "val acc %", "test acc %", "params", "MACs", "images/s", "wall time"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = []
    for group, members in groups.items():
        done = [run.summary() for run in members if run.state == "finished"]
        column = {key: [summary[key] for summary in done] for key in (done[0] if done else ())}
        cells = [dict(group).get(axis, "-") for axis in axes or ["arch.name"]]
        cells.append(f"{len(done)}" if len(done) == len(members) else f"{len(done)} of {len(members)}")
        cells += [_spread(column.get("best/val_acc")), _spread(column.get("test/acc"))]
        means = {key: fmean(column[key]) for key in FIGURES if key in column}
        cells += [shown(means.get(key)) for key, shown in FIGURES.items()]
        rows.append((fmean(column["best/val_acc"]) if done else -1.0, cells))
    for _, cells in sorted(rows, key=lambda row: -row[0]):
        table.add_row(*cells)
    return table


FIGURES = {"params": count, "macs": count, "time/images_per_s": count, "time/wall_s": duration}


def _spread(values: Sequence[float] | None) -> str:
    """Mean and sample standard deviation in percent; one value has no deviation."""
    if not values:
        return "-"
    deviation = f" ± {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * fmean(values):.2f}{deviation}"


def _axes(choices: Sequence[Mapping[str, str]]) -> list[str]:
    """The settings that differ; of a group whose choice differs, its name alone."""
    keys = {key for choice in choices for key in choice}
    differ = sorted(key for key in keys if len({choice.get(key) for choice in choices}) > 1)
    named = {key.removesuffix(".name") for key in differ if key.endswith(".name")}
    return [key for key in differ if key.endswith(".name") or key.split(".")[0] not in named]


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """{"a": {"b": 1}} as {"a.b": "1"}."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: str(value)}
    return flat
