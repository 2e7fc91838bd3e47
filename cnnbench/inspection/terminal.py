"""Tables of models for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cnnbench import console
from cnnbench.inspection.cells import field_cell, memory_cell, sides_cell, window_cell


def model_table(model: Mapping[str, Any]) -> Table:
    """Return a table with one row per layer of what `describe` returns."""
    layers = model["layers"]
    rows = [
        (
            layer["name"],
            layer["kind"],
            "x".join(map(str, layer["output"])) or "-",
            "" if (field := layer["receptive_field"]) is None else field_cell(field),
            *(f"{layer[key]:,}" if layer[key] else "" for key in ("params", "macs")),
            window_cell(layer["window"]),
            "" if field is None else f"{100 * field['share']:.3g} %",
            memory_cell(layer["activation_bytes"]) if layer["output"] else "",
        )
        for layer in layers
    ]
    shape = "x".join(map(str, model["input"]))
    return console.fitting(
        ("layer", "kind", "output", "field", "params", "MACs", "window", "sees", "memory"),
        rows,
        labels=2,
        title=(f"{run}: " if (run := model.get("run")) else "")
        + f"{model['arch']} on {model['data']}: {shape}, {model['classes']} classes",
        least=2,
    )


def remarks(model: Mapping[str, Any]) -> list[str]:
    """Return lines on totals, ops, initialisation, where the field exceeds the image, what downsamples."""
    memory = memory_cell(sum(layer["activation_bytes"] for layer in model["layers"]))
    sizes = f"{model['params']:,} params, {model['macs']:,} MACs, outputs of {memory}"
    lines = [
        f"{len(model['layers'])} layers, {sizes}",
        " ".join(f"{axis}={value}" for axis, value in model["ops"].items()),
        model.get("init", ""),
    ]
    if beyond := exceeding(model):
        lines.append(f"the field exceeds the image from {beyond[0]} on")
    strided = [
        f"{layer['name']} ({sides_cell(layer['window']['stride'])})"
        for layer in model["layers"]
        if layer["window"] and max(layer["window"]["stride"]) > 1
    ]
    if strided:
        lines.append(f"downsampling: {', '.join(strided)}")
    if model["untraceable"]:
        lines.append(f"fields are not known behind {model['untraceable']}")
    return [line for line in lines if line]


def exceeding(model: Mapping[str, Any]) -> list[str]:
    """Return the names of the layers whose field is larger than the image, all of which it sees."""
    return [
        layer["name"]
        for layer in model["layers"]
        if (field := layer["receptive_field"])
        and field["share"] == 1
        and any(
            size is None or size > side for size, side in zip(field["size"], model["input"][1:], strict=True)
        )
    ]


def models_table(models: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table with one row per model."""
    rows = []
    for model in models:
        layers = model["layers"]
        fields = [
            layer["receptive_field"] for layer in layers if layer["window"] and layer["receptive_field"]
        ]
        rows.append(
            (
                model["label"],
                "x".join(map(str, model["input"])),
                f"{model['params']:,}",
                f"{model['macs']:,}",
                str(len(layers)),
                field_cell(fields[-1]) if fields else "",
                next(iter(exceeding(model)), ""),
                memory_cell(sum(layer["activation_bytes"] for layer in layers)),
            )
        )
    headers = ("model", "image", "params", "MACs", "layers", "last window's field", "exceeds from", "outputs")
    return console.fitting(headers, rows, labels=1, least=3)


def comparison_table(
    first: Mapping[str, Any], second: Mapping[str, Any], difference: Mapping[str, Any]
) -> Table:
    """Return a table of two models side by side: `a → b` where they differ.

    Args:
        first, second: as `describe` returns them.
        difference: as `compare` returns it.
    """
    layers = [{layer["name"]: layer for layer in model["layers"]} for model in (first, second)]
    rows = []
    for pair in difference["layers"]:
        a, b = (
            None if pair[which] is None else those[pair[which]]
            for which, those in zip(("first", "second"), layers, strict=True)
        )
        mark, style = ("+", "green") if a is None else ("-", "red") if b is None else ("", "")
        if not mark and pair["differs"]:
            mark, style = "≠", "yellow"
        cells = [_both(a, b, key, style) for key in SHOWN]
        rows.append((Text(mark, style), *cells))
    headers = ("", "layer", "kind", "output", "field", "params", "MACs", "window")
    return console.fitting(headers, rows, labels=3, title=title(first, second), least=2)


def title(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return the heading of a comparison."""
    return f"{first['label']} → {second['label']}"


SHOWN: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "name": lambda layer: str(layer["name"]),
    "kind": lambda layer: str(layer["kind"]),
    "output": lambda layer: "x".join(map(str, layer["output"])) or "-",
    "receptive_field": lambda layer: field_cell(layer["receptive_field"]) if layer["receptive_field"] else "",
    "params": lambda layer: f"{layer['params']:,}" if layer["params"] else "",
    "macs": lambda layer: f"{layer['macs']:,}" if layer["macs"] else "",
    "window": lambda layer: window_cell(layer["window"]),
}
"""What is shown of layers that are compared."""


def _both(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None, key: str, style: str) -> Text:
    """Return a figure of two layers, `a → b` where they differ."""
    show = SHOWN[key]
    if a is None or b is None:
        layer = b if a is None else a
        assert layer is not None
        return Text(console.legible(show(layer)), style)
    one, other = show(a), show(b)
    if one == other:
        return Text(console.legible(one))
    return Text(console.legible(f"{one or '-'} → {other or '-'}", 80), style)


def totals_table(difference: Mapping[str, Any]) -> Table:
    """Return a table of the totals of two models, their difference and their ratio."""
    words = {"params": "params", "macs": "MACs", "layers": "layers", "activation_bytes": "memory of outputs"}
    rows = []
    for key, total in difference["totals"].items():
        first, second, change = (
            _signed_memory(total[which]) if key == "activation_bytes" else f"{total[which]:,}"
            for which in ("first", "second", "difference")
        )
        ratio = "-" if total["ratio"] is None else f"{total['ratio']:.4g}"
        rows.append((words[key], first, second, "+" * (total["difference"] > 0) + change, ratio))
    return console.fitting(("total", "first", "second", "difference", "ratio"), rows, labels=1, least=4)


def _signed_memory(number: int) -> str:
    return f"-{memory_cell(-number)}" if number < 0 else memory_cell(number)
