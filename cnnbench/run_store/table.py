"""Runs as tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.console import count, duration, fitting, milliseconds, percent
from cnnbench.run_store.chance import near_chance
from cnnbench.run_store.schema import LAST_EPOCH
from cnnbench.run_store.swa import missed

if TYPE_CHECKING:
    from cnnbench.run_store.content import Content
    from cnnbench.run_store.run import Run


COLOURS = {
    "finished": "green",
    "running": "cyan",
    "damaged": "red",
    "interrupted": "yellow",
    "failed": "red",
    "diverged": "magenta",
    "pruned": "blue",
}


def outcome(run: Run) -> str:
    """Return the most important metric of a finished run: `val 97.20 %`."""
    content = run.content()
    summary = shown_of(content)
    if content.verb == "bench":
        if "parity/worst" in summary:
            return f"errors up to {100 * summary['parity/worst']:.0f} % of the tolerance"
        latency = f"latency {milliseconds(summary.get('time/latency_p50_ms'))}"
        return str(summary.get("tune/layout", latency))
    part = ("test", "test/acc") if LAST_EPOCH in summary else ("val", "best/val_acc")
    return f"{part[0]} {percent(summary.get(part[1]))}"


def _plain(value: Any) -> str:
    return "-" if value is None else str(value)


TRAINED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "val acc": ("best/val_acc", percent),
    "test acc": ("test/acc", percent),
    "epochs": ("epochs", _plain),
    "wall time": ("time/wall_s", duration),
}
"""Columns of a table of trained runs: summary key and format of each."""

MEASURED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "latency": ("time/latency_p50_ms", milliseconds),
    "images/s": ("time/inference_images_per_s", count),
    "training images/s": ("time/training_images_per_s", count),
}
"""Columns of a table of measurements: summary key and format of each."""


def shown_of(content: Content) -> dict[str, Any]:
    """Return the metrics of a run that are shown: none if any of its files is damaged."""
    return content.summary if content.state != "damaged" else {}


def run_table(run: Run, lines: Iterable[tuple[str, str | Text]] = ()) -> Table:
    """Return the result of one run as a table.

    Args:
        run: the run.
        lines: further rows, a label and a text each.
    """
    content = run.content()
    state, error = content.state, content.status.get("error")
    summary = shown_of(content)
    table = Table(title=str(run.path.name), show_header=False, title_justify="left", min_width=60)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("state", Text(state, COLOURS.get(state, "")))
    for problem in content.damage:
        table.add_row("damage", Text(console.legible(problem, 400), "red"))
    if error and state != "damaged":
        table.add_row("reason", Text(f"{error['type']}: {error['message']}"[:400]))
    if "best/epoch" in summary:
        by = "" if content.monitor == "val/acc" else f", by {content.monitor}"
        table.add_row("best epoch", f"{summary['best/epoch'] + 1} of {summary.get('epochs', '-')}{by}")
        loss = console.number(summary.get("best/val_loss"), ".4f")
        table.add_row("val accuracy", f"{percent(summary.get('best/val_acc'))}   (loss {loss})")
    if LAST_EPOCH in summary:
        epoch = f"{summary[LAST_EPOCH] + 1} of {summary.get('epochs', '-')}"
        table.add_row("tested epoch", f"{epoch}, the last: no val images to choose by (data.val_fraction=0)")
    recipe = content.config.get("trainer") or {}
    if (start := missed(recipe.get("swa"), recipe.get("max_epochs"), summary)) is not None:
        said = f"the tested epoch is before the first that trainer.swa averages, {start + 1}"
        table.add_row("no average", Text(said, "yellow"))
    if state == "finished" and "stopped" in summary:
        table.add_row("stopped", Text(f"by {console.legible(summary['stopped'])}"))
    if "test/acc" in summary:
        more = f"loss {console.number(summary['test/loss'], '.4f')}" if "test/loss" in summary else "no loss"
        if summary.get("data/classes", 0) > 5:
            more += f", top-5 {percent(summary.get('test/top5'))}"
        table.add_row("test accuracy", f"{percent(summary['test/acc'])}   ({more})")
    if (chance := near_chance(summary)) is not None:
        said = f"guessing gives {percent(chance)}; try another optimizer.lr"
        table.add_row("near chance", Text(said, "yellow"))
    if "params" in summary:
        table.add_row("parameters", f"{summary['params']:,}   ({count(summary.get('macs'))} MACs an image)")
    if "time/wall_s" in summary:
        speed = f"   ({count(summary.get('time/images_per_s'))} images/s in training)"
        table.add_row("wall time", duration(summary["time/wall_s"]) + speed)
    for label, text in lines:
        table.add_row(label, text)
    table.add_row("folder", str(run.path))
    table.add_row("details", f"cnnbench runs {run.path}")
    return table


def runs_table(runs: Iterable[Run], states: Mapping[Run, str] | None = None) -> Table:
    """Return a table of runs in the given order, one row each, whatever their states."""
    contents = {run: run.content() for run in runs}
    begun = [content for content in contents.values() if content.state != "new"]  # of others it is not known
    columns = MEASURED if begun and all(content.verb == "bench" for content in begun) else TRAINED
    rows: list[list[str | Text]] = []
    for run, content in contents.items():
        summary, state = shown_of(content), states[run] if states else content.state
        figures = (format_value(summary.get(key)) for key, format_value in columns.values())
        rows.append([run.path.name, Text(state, COLOURS.get(state, "")), *figures, last_sign(content)])
    headers = ("run", "state", *columns, "last")
    return fitting(headers, rows, labels=2)


def last_sign(content: Content) -> str:
    """Return the local time of the last change of a run: the time if it was today, else the date."""
    attempts = content.status.get("attempts") or [{}]
    timestamp = attempts[-1].get("ended") or attempts[-1].get("started")
    try:
        then = datetime.fromisoformat(str(timestamp)).astimezone()
    except (ValueError, OverflowError):
        return "-"
    today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M" if today else "%Y-%m-%d")
