"""An evaluation as files for other programs: all of it as JSON, the images as CSV."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnnbench import __version__
from cnnbench.inference.evaluate.collapsed import Collapsed
from cnnbench.inference.evaluate.images import Chosen
from cnnbench.inference.evaluate.metrics import METHODS, Evaluation
from cnnbench.inference.network import Network
from cnnbench.safe_text import to_csv

ALL = 100
"""Most classes for which the CSV has every probability; with more, it has the five highest."""


def to_json(
    network: Network,
    chosen: Chosen,
    evaluation: Evaluation,
    agreement: dict[str, Any] | None,
    matrix: Collapsed | None,
) -> str:
    """Format metrics, classes and confusions as JSON; shares are between 0 and 1, null if undefined.

    Args:
        network: the model.
        chosen: the images that it was evaluated on.
        evaluation: the result.
        agreement: comparison with the training, as `cnnbench.commands.evaluate.compare` returns it.
        matrix: the result of the matrix that the network is, if it was asked for.
    """
    report = {
        **network.facts,
        "cnnbench": __version__,
        "device": dict(network.device),
        "data": chosen.title,
        "notes": list(chosen.notes),
        "images": len(evaluation.labels),
        "accuracy": evaluation.accuracy,
        "accuracy_interval": list(evaluation.interval),
        "top5": evaluation.top5,
        "loss": evaluation.loss,
        "f1_macro": evaluation.f1_macro,
        "balanced_accuracy": evaluation.balanced_acc,
        "ece": evaluation.ece,
        "training": agreement,
        "collapsed": None if matrix is None else asdict(matrix),
        "classes": [asdict(row) for row in evaluation.classes],
        "confusion": evaluation.confusion.tolist(),
        "methods": list(METHODS),
    }
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def image_table(chosen: Chosen, evaluation: Evaluation) -> str:
    """Return CSV with a row for each image: its path or index, true and predicted class, probabilities."""
    names = [row.name for row in evaluation.classes]
    few = len(names) <= ALL
    more = [f"p({name})" for name in names] if few else [f"{key}_{k}" for k in range(1, 6) for key in "cp"]
    rows: list[list[Any]] = [["image", "true", "predicted", "probability", *more]]
    for i, (label, p) in enumerate(zip(evaluation.labels, evaluation.probabilities, strict=True)):
        image = chosen.images.pixels[i]
        order = (-p).argsort(kind="stable")
        best = int(order[0])
        cells: list[Any] = [_p(value) for value in p]
        if not few:
            cells = [cell for k in order[:5] for cell in (names[k], _p(p[k]))]
        name = str(image) if isinstance(image, Path) else i
        rows.append([name, names[label], names[best], _p(p[best]), *cells])
    return to_csv(rows)


def _p(value: Any) -> str:
    return f"{float(value):.6g}"
