"""A model as plain values: its input, cost and layers."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cnnbench.settings.run import Settings

if TYPE_CHECKING:
    from cnnbench.models.receptive_field import Field


def describe(settings: Settings, label: str = "", run: str = "") -> dict[str, Any]:
    """Return the input, cost and layers of a model as plain values.

    Args:
        settings: of model and images.
        label: what tells the model from others; "": its architecture.
        run: name of the run that it is of; "": of none.

    Raises:
        InputError: wrong settings.
    """
    from cnnbench.models import complexity
    from cnnbench.models.receptive_field import receptive_fields
    from cnnbench.training import model as training_model

    model, shape, classes, facts = training_model.sketch(settings)
    fields = receptive_fields(model, shape)
    return {
        "label": label or settings.arch.name,
        **({"run": run} if run else {}),
        "arch": settings.arch.name,
        "data": settings.data.name,
        "input": list(shape),
        "classes": classes,
        "ops": {k: v for k, v in settings.resolved_ops().items() if (k, v) != ("init", "native")},
        **facts,
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "window": None if layer.window is None else asdict(layer.window),
                "output": list(layer.output),
                "params": layer.params,
                "macs": layer.macs,
                "activation_bytes": layer.activation_bytes,
                "receptive_field": _plain(fields.layers.get(layer.name)),
            }
            for layer in complexity.layers(model, shape)
        ],
        "untraceable": fields.untraceable,
    }


def _plain(field: Field | None) -> dict[str, Any] | None:
    """Return a field as plain values by rows and columns; null stands for a size without bound."""
    if field is None or math.isnan(field.rows.size + field.columns.size):
        return None
    lines = [asdict(field.rows), asdict(field.columns)]
    plain = {
        key: [None if line[key] in (None, math.inf) else line[key] for line in lines] for key in lines[0]
    }
    return {**plain, "share": field.share}
