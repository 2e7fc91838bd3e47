"""Results of a training: the metrics of summary.json, and the outputs on the test set for trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnnbench.data.datamodule import ImageData
from cnnbench.run_store.schema import LAST_EPOCH
from cnnbench.tracking.base import TestResult
from cnnbench.training.decisions import VALUES
from cnnbench.training.monitor import Row, is_validated

Outputs = list[tuple[torch.Tensor, torch.Tensor]]
"""Probabilities (N, K) and labels (N,) of each batch."""


def summary(
    facts: Mapping[str, Any], rows: Sequence[Row], best: Row, test: Mapping[str, float], wall_s: float
) -> dict[str, Any]:
    """Return the content of summary.json.

    Args:
        facts: about model and data, see `Built`.
        rows: one per epoch.
        best: that of the best epoch.
        test: `test/loss`, `test/acc`, `test/top5`, and `test/…` of `Decisions`.
        wall_s: seconds that all attempts took together.
    """
    train_s = sum(row["time/train_s"] for row in rows)
    return {
        **facts,
        "epochs": len(rows),
        **_tested(best),
        **test,
        "time/wall_s": wall_s,
        "time/train_s": train_s,
        "time/images_per_s": sum(row["time/images"] for row in rows) / train_s,
    }


def _tested(best: Row) -> dict[str, Any]:
    """Return which epoch was tested, and its metrics of val if it was chosen by them."""
    if not is_validated(best):
        return {LAST_EPOCH: int(best["epoch"])}
    values = {
        f"best/val_{key}": best[f"val/{key}"] for key in ("acc", "loss", *VALUES) if f"val/{key}" in best
    }
    return {"best/epoch": int(best["epoch"]), **values}


def test_result(data: ImageData, outputs: Outputs) -> TestResult:
    """Return the outputs on the test set, with access to its images."""
    probabilities, labels = (torch.cat(column).numpy() for column in zip(*outputs, strict=True))
    return TestResult(probabilities, labels, data.classes, lambda i: _picture(data, i))


def _picture(data: ImageData, index: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return one image of the test set as (H, W, C), cropped as in evaluation."""
    pixels = data.test.pixels[index]
    image = data.preparation.open(pixels) if isinstance(pixels, Path) else pixels
    return image.permute(1, 2, 0).numpy()
