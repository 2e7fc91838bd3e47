"""The offline page of inspected models: its data; `pages.shell` puts it together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench.inspection.cells import field_cell, memory_cell, window_cell
from cnnbench.inspection.plot import points
from cnnbench.inspection.terminal import remarks
from cnnbench.pages import shell

SCRIPTS = ("inspection/tables.js", "inspection/charts.js", "inspection/main.js")
STYLES = ("inspection/inspection.css",)


def page(models: Sequence[Mapping[str, Any]], difference: Mapping[str, Any] | None = None) -> str:
    """Return the page of models as HTML.

    Args:
        models: as `describe` returns them.
        difference: of the two models, as `compare` returns it; None: they are not compared.
    """
    labels = [model["label"] for model in models]
    return shell.page(
        " → ".join(labels) if difference else ", ".join(labels),
        {"models": [_model(model) for model in models], "difference": difference},
        body="inspection/body.html",
        scripts=SCRIPTS,
        styles=STYLES,
        charts=True,
    )


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model with the texts that the tables show and the points of the charts."""
    layers = []
    for number, layer in enumerate(model["layers"], 1):
        field = layer["receptive_field"]
        texts = {
            "output": "x".join(map(str, layer["output"])) or "-",
            "field": "" if field is None else field_cell(field),
            "window": window_cell(layer["window"]),
            "memory": memory_cell(layer["activation_bytes"]) if layer["output"] else "",
        }
        largest = None if field is None or None in field["size"] else max(field["size"])
        layers.append({**layer, "number": number, "texts": texts, "largest": largest})
    return {**model, "layers": layers, "remarks": remarks(model), "points": points(model)}
