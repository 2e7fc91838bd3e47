"""The description of a measurement that is sent to the process that makes it. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.settings.bench import Bench

TORCH = ("eager", "compile")
"""Backends that run the module itself; the others run a file exported from it."""


@dataclass(frozen=True)
class Spec:
    """One measurement in one process.

    Attributes:
        task: `time`, `training`, `memory`, `training_memory` or `tune`.
        device: the resolved device settings.
        shape: (C, H, W) of the images.
        classes: K.
        weights: file with the module's state_dict.
        exported: ONNX file, for the backends that need one.
        batch_sizes: in increasing order; empty for `auto`.
        memory_bytes: limit of what the process may allocate beyond what it starts with.
    """

    task: str
    settings: Bench
    device: dict[str, Any]
    shape: tuple[int, int, int]
    classes: int
    weights: Path
    exported: Path | None
    batch_sizes: tuple[int, ...]
    memory_bytes: int
