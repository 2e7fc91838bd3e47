"""The page of a lesson: what each layer takes, does and returns, for a few images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cnnbench.inference.explain.examples import Examples
from cnnbench.inference.lesson.calls import IMAGE, Call, calls
from cnnbench.inference.lesson.concepts import concept
from cnnbench.inference.lesson.kinds import curve, geometry, kind, scale_and_shift
from cnnbench.inference.lesson.matrix import Matrix, matrix
from cnnbench.inference.lesson.sprites import SIDE, photos, reduced, sprite
from cnnbench.inference.network import Network
from cnnbench.models.receptive_field import Field, Fields, Line, receptive_fields
from cnnbench.pages import shell

SCRIPTS = (
    "lesson/pictures.js",
    "lesson/layers.js",
    "lesson/unit.js",
    "lesson/parts.js",
    "lesson/matrix.js",
    "lesson/main.js",
)
STYLES = ("lesson/lesson.css",)

SIZES = ((4, 8), (4, 6), (3, 6), (3, 4), (2, 4), (2, 3), (2, 2), (2, 1), (1, 1))
"""Images, and channels of each map, that a page shows: the first pair that fits."""

AREA = 850_000
"""Most pixels of all maps in a page: with them it stays below 2 MB, even where nothing can be compressed."""

UNITS = 256
"""Most units of a fully connected layer that are shown."""


def page(network: Network, examples: Examples, title: str, facts: Sequence[str]) -> str:
    """Return the page as HTML.

    Args:
        network: the model.
        examples: some images, the first of which are shown.
        title, facts: of what is shown.
    """
    found = calls(network, examples.pixels)
    count, channels = _fitting(found, len(examples.names))
    prepared = network.preparation
    shares = network.logits(examples.pixels[:count]).softmax(1)
    fields = receptive_fields(network.model, network.shape)
    steps = [_step(i, call, found, fields, count, channels) for i, call in enumerate(found)]
    data = {
        "facts": list(facts),
        "size": prepared.size,
        "classes": prepared.classes,
        "photos": photos(examples.pixels[:count]),
        "mean": prepared.mean,
        "std": prepared.std,
        "channels": prepared.channels,
        "exact": prepared.size <= SIDE,
        "images": [
            {
                "name": name,
                "label": None if label is None else prepared.classes[label],
                "shares": [float(f"{share:.4g}") for share in row.tolist()],
            }
            for name, label, row in zip(examples.names[:count], examples.labels, shares, strict=False)
        ],
        "steps": steps,
    }
    return shell.page(title, data, body="lesson/body.html", scripts=SCRIPTS, styles=STYLES, images=True)


def _fitting(found: Sequence[Call], images: int) -> tuple[int, int]:
    """Return how many images, and channels of each map, fit into a page."""
    for count, channels in SIZES:
        count = min(count, images)
        area = sum(
            count * _shown(maps, channels).shape[1] * math.prod(reduced(maps[:1, :1]).shape[2:])
            for call in found
            for maps in (call.returned, call.taken)
            if maps.ndim == 4 and (maps is call.returned or call.source is None)
        )
        if area <= AREA:
            break
    return count, channels


def _shown(maps: Tensor, channels: int) -> Tensor:
    """Return the first channels of maps; a vector, or a map of single positions, as one map of its units."""
    if maps.ndim == 4 and maps.shape[2:] != (1, 1):
        return maps[:, :channels]
    flat = maps.flatten(1)[:, :UNITS]
    return flat.view(len(flat), 1, 1, -1)


def _step(
    number: int, call: Call, found: Sequence[Call], fields: Fields, count: int, channels: int
) -> dict[str, Any]:
    """Return a layer as plain values for the page's script."""
    is_map = call.returned.ndim == 4 and call.returned.shape[2:] != (1, 1)
    as_matrix = matrix(call)
    step: dict[str, Any] = {
        "name": call.name,
        "kind": kind(call),
        "class": type(call.module).__name__,
        "taken": list(call.taken.shape[1:]),
        "returned": list(call.returned.shape[1:]),
        "is_map": is_map,
        "params": sum(p.numel() for p in call.module.parameters(recurse=False)),
        "source": call.source,
        "window": geometry(call),
        "texts": concept(call, as_matrix),
        "output": sprite(_shown(call.returned[:count], channels)),
        "shown": _shown(call.returned[:1], channels).shape[1 if is_map else 3],
        "field": _field(_field_of(number, found, fields)),
        "curve": curve(call),
        "weights": _weights(call, channels),
        "affine": _affine(call, channels),
        "matrix": _matrix(as_matrix),
    }
    if call.source is None:
        step["input"] = sprite(_shown(call.taken[:count], channels))
    return step


def _field_of(number: int, found: Sequence[Call], fields: Fields) -> Field | None:
    """Return the field of a call; what acts on single numbers, and is called again, has that of its input."""
    call = found[number]
    if call.name not in [earlier.name for earlier in found[:number]]:
        return fields.layers.get(call.name)
    if kind(call) in ("activation", "norm") and call.source not in (None, IMAGE):
        return _field_of(call.source, found, fields)
    return None


def _field(field: Field | None) -> dict[str, Any] | None:
    if field is None or math.isnan(field.rows.size + field.columns.size):
        return None
    return {"rows": _line(field.rows), "columns": _line(field.columns), "share": field.share}


def _line(line: Line) -> dict[str, Any]:
    """Return a field along one axis; null for a size without bound."""
    size = line.size if math.isfinite(line.size) else None
    return {"size": size, "jump": line.jump, "centre": line.centre, "seen": line.seen}


def _weights(call: Call, channels: int) -> dict[str, Any] | None:
    """Return the kernels between the shown channels, and the bias, of a convolution."""
    weight = getattr(call.module, "weight", None)
    if kind(call) != "convolution" or not isinstance(weight, Tensor):
        return None
    bias = getattr(call.module, "bias", None)
    shown = weight.detach().float().cpu()[:channels, :channels]
    return {
        "kernels": _rounded(shown.flatten(2)),
        "bias": None if bias is None else _rounded(bias.detach().float().cpu()[:channels]),
        "plain": getattr(call.module, "shift", None) is None,
    }


def _affine(call: Call, channels: int) -> list[list[float]] | None:
    found = scale_and_shift(call)
    if found is None:
        return None
    shown = channels if call.returned.ndim == 4 else UNITS
    return [_rounded(part[:shown]) for part in found]


def _matrix(found: Matrix | None) -> dict[str, Any] | None:
    if found is None:
        return None
    limit = max(float(found.part.abs().max()), 1e-12)
    return {
        "unconstrained": found.unconstrained,
        "nonzero": found.nonzero,
        "free": found.free,
        "values": [[int(level) for level in row] for row in (found.part / limit * 100).round().tolist()],
        "side": found.side,
        "places": list(found.places),
    }


def _rounded(tensor: Tensor) -> Any:
    """Return a tensor as nested lists of numbers of six digits."""
    if tensor.ndim == 0:
        return float(f"{float(tensor):.6g}")
    return [_rounded(part) for part in tensor]
