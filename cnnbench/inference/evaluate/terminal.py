"""Terminal output of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.inference.evaluate.collapsed import Collapsed
from cnnbench.inference.evaluate.images import Chosen
from cnnbench.inference.evaluate.metrics import METHODS, Evaluation, confused
from cnnbench.inference.network import Network

HEAT = 20
"""Most classes for which the full confusion matrix is shown; with more, its largest entries are listed."""

PAIRS = 15
"""Number of confusions that are listed."""


def picture(
    network: Network,
    chosen: Chosen,
    evaluation: Evaluation,
    agreement: Text | None,
    matrix: Collapsed | None,
) -> RenderableType:
    """Build all that is shown: summary, classes, confusions and methods."""
    few = len(evaluation.classes) <= HEAT
    heat = heat_table(evaluation) if few else None
    if heat is None or not console.fits(heat):
        heat = pairs_table(evaluation)
    tables = [summary_table(network, chosen, evaluation, agreement, matrix), class_table(evaluation), heat]
    return Group(*tables, *(Text(text, "dim") for text in METHODS))


def summary_table(
    network: Network,
    chosen: Chosen,
    evaluation: Evaluation,
    agreement: Text | None,
    matrix: Collapsed | None,
) -> Table:
    """Build the table of accuracy, loss and calibration, with images and weights."""
    table = Table(
        title=Text(console.legible(network.name, 200)),
        show_header=False,
        title_justify="left",
        min_width=60,
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    low, high = evaluation.interval
    table.add_row("images", Text(f"{len(evaluation.labels):,}: {console.legible(chosen.title, 300)}"))
    table.add_row("weights", Text(console.legible(network.weights, 300)))
    interval = f"({100 * low:.2f} to {100 * high:.2f} %)"
    table.add_row("accuracy", f"{console.percent(evaluation.accuracy)}   {interval}")
    if len(evaluation.classes) > 5:
        table.add_row("top-5", console.percent(evaluation.top5))
    table.add_row("macro-F1", console.percent(evaluation.f1_macro))
    table.add_row("balanced accuracy", console.percent(evaluation.balanced_acc))
    table.add_row("loss (NLL)", f"{evaluation.loss:.4f}")
    table.add_row("ECE", console.percent(evaluation.ece))
    if agreement is not None:
        table.add_row("training recorded", agreement)
    if matrix is not None:
        table.add_row("as one matrix", str(matrix))
    return table


def class_table(evaluation: Evaluation) -> Table:
    """Build the table of precision, recall and F1 of each class."""
    rows = [
        [
            row.name,
            *(console.percent(share) for share in (row.precision, row.recall, row.f1)),
            f"{row.images:,}",
        ]
        for row in evaluation.classes
    ]
    return console.fitting(("class", "precision", "recall", "F1", "images"), rows, labels=1)


def heat_table(evaluation: Evaluation) -> Table:
    """Build the confusion matrix; the intensity of a cell's colour is its share of the row."""
    table = _table("images by true class (rows) and predicted class (columns)")
    table.add_column("true")
    for k in range(len(evaluation.classes)):
        table.add_column(str(k), justify="right", header_style="dim", no_wrap=True)
    rows = zip(evaluation.classes, evaluation.confusion.tolist(), strict=True)
    for k, (true, counts) in enumerate(rows):
        cells: Iterable[Text] = (
            _cell(count, true.images, right=k == column) for column, count in enumerate(counts)
        )
        table.add_row(Text(f"{k} {console.legible(true.name, 20)}"), *cells)
    return table


def _cell(count: int, total: int, *, right: bool) -> Text:
    if not count:
        return Text("·", "dim")
    depth = round(40 + 150 * count / total)
    colour = f"rgb(0,{depth},60)" if right else f"rgb({depth},30,30)"
    return Text(str(count), f"white on {colour}")


def pairs_table(evaluation: Evaluation) -> Table:
    """Build the list of confusions, the most frequent first."""
    classes = evaluation.classes
    rows = [
        [classes[i].name, classes[j].name, f"{n:,}", console.percent(n / classes[i].images)]
        for i, j, n in confused(evaluation, PAIRS)
    ]
    return console.fitting(
        ("true", "predicted", "images", "of true class"), rows, labels=2, title="most frequent confusions"
    )


def _table(title: str) -> Table:
    return Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
