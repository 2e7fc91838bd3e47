"""What people see in the terminal: one console and the tables of runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from cnnbench.runs import Run

Item = TypeVar("Item")


class Piped(Console):
    """A console whose reader may go away (`| head -1`): the command ends as others do then."""

    def on_broken_pipe(self) -> None:
        """Instead of ending the process with 1, as if something had failed."""
        raise BrokenPipeError


console = Console(stderr=True)
"""Progress and notes; results go to `out`, so that they can be piped."""

_width_known = "COLUMNS" in os.environ or (sys.stdout is not None and sys.stdout.isatty())
out = Piped() if _width_known else Piped(width=120)

COLOURS = {
    "finished": "green",
    "running": "cyan",
    "damaged": "red",
    "interrupted": "yellow",
    "failed": "red",
    "diverged": "magenta",
    "pruned": "blue",
}


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """`items`, with a bar in a terminal that goes away at the end."""
    from rich.progress import track

    yield from track(items, what, total, console=console, transient=True, disable=not console.is_terminal)


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
    """75.3 as `1:15 min`, 4.2 as `4.2 s`, 0.0042 as `4.2 ms`."""
    if not isinstance(seconds, (int, float)):
        return "-"
    if 0 < seconds < 0.05:
        return milliseconds(1000 * seconds)
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"


def milliseconds(value: Any) -> str:
    """12.345 as `12.3 ms`."""
    return f"{value:.3g} ms" if isinstance(value, (int, float)) else "-"


def outcome(run: Run) -> str:
    """The figure of a finished run that one looks at first: `val 97.20 %`."""
    summary = run.summary()
    if run.verb == "bench":
        if "parity/worst" in summary:
            return f"errors up to {100 * summary['parity/worst']:.0f} % of what is allowed"
        latency = f"latency {milliseconds(summary.get('time/latency_p50_ms'))}"
        return str(summary.get("tune/layout", latency))
    return f"val {percent(summary.get('best/val_acc'))}"


def _as_it_is(value: Any) -> str:
    return "-" if value is None else str(value)


TRAINED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "val acc": ("best/val_acc", percent),
    "test acc": ("test/acc", percent),
    "epochs": ("epochs", _as_it_is),
    "wall time": ("time/wall_s", duration),
}
MEASURED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "latency": ("time/latency_p50_ms", milliseconds),
    "images/s": ("time/inference_images_per_s", count),
    "training images/s": ("time/training_images_per_s", count),
}
"""The columns of a table of runs, with the keys of their figures."""


def run_picture(run: Run) -> Group:
    """One run: what came out, and where it lies; of a measurement also its tables."""
    if run.verb != "bench":
        return Group(run_table(run))
    from cnnbench.bench import table

    more = (table.batches(run), table.errors(run))
    return Group(run_table(run, table.lines(run)), *(one for one in more if one is not None))


def run_table(run: Run, lines: Iterable[tuple[str, str | Text]] = ()) -> Table:
    """One run: what came out, what else there is to say in `lines`, and where it lies."""
    summary, state = run.summary(), run.state
    table = Table(title=str(run.path.name), show_header=False, title_justify="left", min_width=60)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("state", Text(state, COLOURS.get(state, "")))
    if error := run.status().get("error"):
        table.add_row("reason", Text(f"{error['type']}: {error['message']}"[:400]))
    if "best/epoch" in summary:
        table.add_row("best epoch", f"{summary['best/epoch'] + 1} of {summary['epochs']}")
        table.add_row(
            "val accuracy", percent(summary["best/val_acc"]) + f"   (loss {summary['best/val_loss']:.4f})"
        )
    if "test/acc" in summary:
        more = f"loss {summary['test/loss']:.4f}" if "test/loss" in summary else "no loss"
        if summary.get("data/classes", 0) > 5:
            more += f", top-5 {percent(summary['test/top5'])}"
        table.add_row("test accuracy", f"{percent(summary['test/acc'])}   ({more})")
    if "params" in summary:
        table.add_row("parameters", f"{summary['params']:,}   ({count(summary.get('macs'))} MACs an image)")
    if "time/wall_s" in summary:
        speed = f"   ({count(summary['time/images_per_s'])} images/s in training)"
        table.add_row("wall time", duration(summary["time/wall_s"]) + speed)
    for label, text in lines:
        table.add_row(label, text)
    table.add_row("lies in", str(run.path))
    table.add_row("show again", f"cnnbench runs {run.path}")
    return table


def model_table(model: Mapping[str, Any]) -> Table:
    """What `cnnbench inspect` found: a row a layer, and the totals."""
    shape, ops = "x".join(map(str, model["input"])), model["ops"]
    title = f"{model['arch']} on {model['data']}: {shape}, {model['classes']} classes"
    caption = [" ".join(f"{axis}={value}" for axis, value in ops.items()), model.get("init", "")]
    table = Table(
        title=title,
        caption="\n".join(filter(None, caption)) or None,
        box=box.SIMPLE_HEAD,
        show_footer=True,
        title_justify="left",
        caption_justify="left",
    )
    layers = model["layers"]
    table.add_column("layer", f"{len(layers)} layers")
    table.add_column("kind")
    table.add_column("output", justify="right")
    table.add_column("params", f"{model['params']:,}", justify="right")
    table.add_column("MACs", f"{model['macs']:,}", justify="right")
    for layer in layers:
        cells = [f"{layer[key]:,}" if layer[key] else "" for key in ("params", "macs")]
        table.add_row(layer["name"], layer["kind"], "x".join(map(str, layer["output"])) or "-", *cells)
    return table


def fitting(
    headers: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    labels: int,
    title: str = "",
    fold: int | None = None,
    least: int = 1,
) -> Table:
    """A table as wide as the terminal allows: what does not fit is left out by columns, the last first.

    The first `labels` columns say what a row is, and stay, and so do `least` figures after them; a figure is
    never cut. What is left out is named below the table. Labels are folded to `fold` letters a line, if it is
    given, and to fewer where there is no room for the figures beside them.
    """
    rows, most = list(rows), 400 if fold else 60
    for shown in range(len(headers), labels + least - 1, -1):
        hidden = f"too narrow for {', '.join(headers[shown:])}" if shown < len(headers) else None
        table = Table(
            title=Text(legible(title, 200), "bold") if title else None,
            caption=Text(legible(hidden, 200)) if hidden else None,
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for i, header in enumerate(headers[:shown]):
            if i < labels:
                table.add_column(Text(legible(header)), overflow="fold", max_width=fold)
            else:
                table.add_column(Text(legible(header)), justify="right", no_wrap=labels < i)
        for row in rows:
            texts = (Text(legible(cell, most)) if isinstance(cell, str) else cell for cell in row[:shown])
            table.add_row(*texts)
        if fits(table):
            break
    return table


def fits(table: Table) -> bool:
    """Whether the terminal is wide enough for a table, without folding anything."""
    return out.measure(table, options=out.options.update(max_width=10_000)).maximum <= out.width


def legible(text: str, most: int = 60) -> str:
    """A text of somebody else's as one line: no control characters, no more than that many letters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def runs_table(runs: Iterable[Run], states: Mapping[Run, str] | None = None) -> Table:
    """Many runs, a row each, in the order given; unfinished and failed ones are shown too."""
    runs = list(runs)
    begun = [run for run in runs if run.state != "new"]  # the others do not say what they are
    columns = MEASURED if begun and all(run.verb == "bench" for run in begun) else TRAINED
    rows: list[list[str | Text]] = []
    for run in runs:
        summary, state = run.summary(), states[run] if states else run.state
        figures = (shown(summary.get(key)) for key, shown in columns.values())
        rows.append([run.path.name, Text(state, COLOURS.get(state, "")), *figures, last_sign(run)])
    headers = ("run", "state", *columns, "last")
    return fitting(headers, rows, labels=2)


def last_sign(run: Run) -> str:
    """When something last happened to a run, in local time: today's hour, or the day."""
    attempts = run.status().get("attempts") or [{}]
    said = attempts[-1].get("ended") or attempts[-1].get("started")
    try:
        then = datetime.fromisoformat(str(said)).astimezone()
    except ValueError:
        return "-"
    today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M" if today else "%Y-%m-%d")
