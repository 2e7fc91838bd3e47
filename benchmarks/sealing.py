"""Measure what it costs that no checkpoint is half-written or read damaged: `torch.save`, flushed, sealed.

    python benchmarks/sealing.py [--repeats 9] [--folder .]

Writes and reads the checkpoint of three networks, with the state of SGD with momentum, in turn in each way.
Prints the medians, and their ratios to `torch.save` and `torch.load` alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision import models

from cnnbench.training.checkpoints import read_checkpoint, write_checkpoint

NETWORKS = {"mobilenet_v2": models.mobilenet_v2, "resnet18": models.resnet18, "resnet152": models.resnet152}


def flushed(content: object, path: Path) -> None:
    """Write a checkpoint that outlives a loss of power, without a seal."""
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def measured(content: object, path: Path, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each way to write and to read a checkpoint, tried in turn."""
    ways: dict[str, Callable[[], object]] = {
        "torch.save": lambda: torch.save(content, path),
        "flushed": lambda: flushed(content, path),
        "sealed": lambda: write_checkpoint({"content": content}, path),
        "torch.load": lambda: torch.load(path, weights_only=True),
        "verified": lambda: read_checkpoint(path),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, action in ways.items():
            if way in ("torch.save", "flushed", "sealed"):
                path.unlink(missing_ok=True)
            start = time.perf_counter()
            action()
            times[way].append(1000 * (time.perf_counter() - start))
    return {way: statistics.median(values) for way, values in times.items()}


def main() -> None:
    """Print a line for each network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk that is to be measured")
    asked = parser.parse_args()
    for name, network in NETWORKS.items():
        weights = network().state_dict()
        momentum = {key: torch.randn(value.shape) for key, value in weights.items()}
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            path = Path(folder, "last.ckpt")
            ms = measured({"weights": weights, "momentum": momentum}, path, asked.repeats)
            megabytes = path.stat().st_size / 1e6
        shown = " · ".join(f"{way} {value:.0f} ms" for way, value in ms.items())
        written, read = ms["sealed"] / ms["torch.save"], ms["verified"] / ms["torch.load"]
        print(f"{name} ({megabytes:.0f} MB): {shown} · write ratio {written:.2f}, read ratio {read:.2f}")


if __name__ == "__main__":
    main()
