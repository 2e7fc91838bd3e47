"""What people see in the terminal: one console and the tables of runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from cnnbench.runs import Run

console = Console(stderr=True)
"""Progress and notes; results go to `out`, so that they can be piped."""

out = Console()

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


def runs_table(runs: Iterable[Run], title: str | None = None, by: str = "best/val_acc") -> Table:
    """Many runs, a row each, the best `by` first; unfinished and failed ones are shown too."""
    table = Table(title=title, title_justify="left")
    for name in ("run", "state"):
        table.add_column(name, overflow="fold")
    for name in ("epochs", "val acc", "test acc", "params", "MACs", "images/s", "wall time"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = [(run, run.summary(), run.state) for run in runs]
    rows.sort(key=lambda row: (-row[1].get(by, -1.0), row[0].path.name))
    for run, summary, state in rows:
        table.add_row(
            run.path.name,
            Text(state, COLOURS.get(state, "")),
            str(summary.get("epochs", "-")),
            percent(summary.get("best/val_acc")),
            percent(summary.get("test/acc")),
            count(summary.get("params")),
            count(summary.get("macs")),
            count(summary.get("time/images_per_s")),
            duration(summary.get("time/wall_s")),
        )
    return table
