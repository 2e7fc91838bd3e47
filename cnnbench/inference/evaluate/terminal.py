"""An evaluation as people see it in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.inference.evaluate.images import Chosen
from cnnbench.inference.evaluate.metrics import METHODS, Evaluation, confused
from cnnbench.inference.trained_model import CHECKPOINT, Trained

HEAT = 20
"""Classes that a table of all confusions is shown for; of more, the pairs that are confused most."""

PAIRS = 15


def picture(trained: Trained, chosen: Chosen, found: Evaluation, agreement: Text | None) -> RenderableType:
    """Everything that is shown."""
    few = len(found.classes) <= HEAT
    heat = heat_table(found) if few else None
    if heat is None or not console.fits(heat):
        heat = pairs_table(found)
    parts = [summary_table(trained, chosen, found, agreement), class_table(found), heat]
    return Group(*parts, *(Text(text, "dim") for text in METHODS))


def summary_table(trained: Trained, chosen: Chosen, found: Evaluation, agreement: Text | None) -> Table:
    """Accuracy, loss and calibration, and what they are of."""
    table = Table(
        title=Text(console.legible(trained.run.path.name, 200)),
        show_header=False,
        title_justify="left",
        min_width=60,
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    low, high = found.interval
    epoch = trained.run.summary().get("best/epoch")
    of = f" (epoch {epoch + 1})" if isinstance(epoch, int) else ""
    table.add_row("images", Text(f"{len(found.labels):,}: {console.legible(chosen.title, 300)}"))
    table.add_row("weights", f"{CHECKPOINT}, of the epoch that was best on val{of}")
    table.add_row("accuracy", f"{console.percent(found.accuracy)}   ({100 * low:.2f} to {100 * high:.2f} %)")
    if len(found.classes) > 5:
        table.add_row("top-5", console.percent(found.top5))
    table.add_row("loss", f"{found.loss:.4f}")
    table.add_row("ECE", console.percent(found.ece))
    if agreement is not None:
        table.add_row("training said", agreement)
    return table


def class_table(found: Evaluation) -> Table:
    """Precision, recall and F1 of each class."""
    rows = [
        [
            one.name,
            *(console.percent(share) for share in (one.precision, one.recall, one.f1)),
            f"{one.images:,}",
        ]
        for one in found.classes
    ]
    return console.fitting(("class", "precision", "recall", "F1", "images"), rows, labels=1)


def heat_table(found: Evaluation) -> Table:
    """True classes by predicted ones, with the share of its row as the depth of a cell's colour."""
    table = _table("images by true class (rows) and predicted class (columns)")
    table.add_column("true")
    for k in range(len(found.classes)):
        table.add_column(str(k), justify="right", header_style="dim", no_wrap=True)
    for k, (one, row) in enumerate(zip(found.classes, found.confusion.tolist(), strict=True)):
        cells: Iterable[Text] = (
            _cell(count, one.images, right=k == column) for column, count in enumerate(row)
        )
        table.add_row(Text(f"{k} {console.legible(one.name, 20)}"), *cells)
    return table


def _cell(count: int, of: int, *, right: bool) -> Text:
    if not count:
        return Text("·", "dim")
    depth = round(40 + 150 * count / of)
    colour = f"rgb(0,{depth},60)" if right else f"rgb({depth},30,30)"
    return Text(str(count), f"white on {colour}")


def pairs_table(found: Evaluation) -> Table:
    """What is taken for what, the most frequent first."""
    pairs = confused(found, PAIRS)
    rows = [
        [found.classes[i].name, found.classes[j].name, f"{n:,}", console.percent(n / found.classes[i].images)]
        for i, j, n in pairs
    ]
    return console.fitting(
        ("true", "taken for", "images", "of the class"), rows, labels=2, title="confused most"
    )


def _table(title: str) -> Table:
    return Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
