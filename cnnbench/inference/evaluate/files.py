"""An evaluation as files for other programs: JSON of everything, CSV of each image."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

from cnnbench import __version__
from cnnbench.inference.evaluate.images import Chosen
from cnnbench.inference.evaluate.metrics import METHODS, Evaluation
from cnnbench.inference.trained_model import CHECKPOINT, Trained

ALL = 100
"""Classes up to which the CSV has the probability of each; of more, the five most probable."""


def to_json(trained: Trained, chosen: Chosen, found: Evaluation, agreement: dict[str, Any] | None) -> str:
    """Figures, classes and confusions; shares between 0 and 1, null for what nothing tells."""
    said = {
        "run": trained.run.path.name,
        "checkpoint": CHECKPOINT,
        "cnnbench": __version__,
        "device": dict(trained.device),
        "data": chosen.title,
        "notes": list(chosen.notes),
        "images": len(found.labels),
        "accuracy": found.accuracy,
        "accuracy_interval": list(found.interval),
        "top5": found.top5,
        "loss": found.loss,
        "ece": found.ece,
        "training": agreement,
        "classes": [asdict(one) for one in found.classes],
        "confusion": found.confusion.tolist(),
        "methods": list(METHODS),
    }
    return json.dumps(said, indent=1, allow_nan=False) + "\n"


def to_csv(chosen: Chosen, found: Evaluation) -> str:
    """A row an image: its path or its place in the set, true and predicted class, probabilities."""
    names = [one.name for one in found.classes]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    few = len(names) <= ALL
    more = [f"p({name})" for name in names] if few else [f"{key}_{k}" for k in range(1, 6) for key in "cp"]
    writer.writerow(["image", "true", "predicted", "probability", *more])
    for i, (label, p) in enumerate(zip(found.labels, found.probabilities, strict=True)):
        image = chosen.images.pixels[i]
        order = (-p).argsort(kind="stable")
        best = int(order[0])
        cells: list[Any] = [_p(value) for value in p]
        if not few:
            cells = [cell for k in order[:5] for cell in (names[k], _p(p[k]))]
        where = str(image) if isinstance(image, Path) else i
        writer.writerow([where, names[label], names[best], _p(p[best]), *cells])
    return text.getvalue()


def _p(value: Any) -> str:
    return f"{float(value):.6g}"
