"""What is measured, as it is told to the process that measures it. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench.settings.bench import Bench

TORCH = ("eager", "compile")
"""Backends that run the module itself; the others run a file that was exported from it."""


@dataclass(frozen=True)
class Spec:
    """One measurement in one process.

    Attributes:
        task: `time`, `training`, `memory`, `training_memory` or `tune`.
        device: what the device settings became.
        shape: (C, H, W) of the images.
        classes: K.
        weights: the file of the module's state_dict.
        exported: the ONNX file, for the backends that want one.
        batch_sizes: images at a time, rising.
        memory_bytes: what the process may take, besides what it starts with.
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
