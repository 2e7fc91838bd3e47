"""Trainings that are not repeated bit for bit: with other threads, another layout, or in two processes.

    python benchmarks/repetition.py [--epochs 20]

Trains three networks on digits in each way, from the same weights with the same batches and augmentation.
Prints, against one thread: weights that differ, the largest difference relative to the largest weight, and
the differences of val loss and val accuracy at the end. An interrupted run keeps its threads, layout and
processes, and is exact.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from cnnbench.run_store.find import find
from cnnbench.run_store.run import Run

ARCHS = {
    "basic": ["arch=basic"],
    "resnet20": ["arch=resnet20", "arch.width=0.5"],
    "efficientnet_b0": ["arch=efficientnet_b0", "arch.width=0.25"],
}
ONE = ["device=cpu", "device.threads=1", "device.memory_format=contiguous"]
WAYS = {
    "the same again": ONE,
    "interrupted, resumed": ONE,
    "2 threads": [ONE[0], "device.threads=2", ONE[2]],
    "channels_last": [*ONE[:2], "device.memory_format=channels_last"],
    "2 processes (DDP)": ["device=ddp_cpu", "device.devices=2", "device.threads=1", ONE[2]],
    "2 processes, synced": [
        *("device=ddp_cpu", "device.devices=2", "device.threads=1", ONE[2], "device.sync_batch_norm=true"),
    ],
}


def train(folder: Path, *overrides: str, interrupt: bool = False) -> Run:
    """Train a run in a process of its own, with an interruption after its second epoch if asked for."""
    line = [sys.executable, "-m", "cnnbench", "train", f"output_dir={folder}", "logger=none", *overrides]
    if interrupt:
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not any(len(run.rows()) > 1 for run in _runs(folder)):
            time.sleep(0.01)
        process.terminate()
        assert process.wait() == 143, "ended before it was interrupted: give it more epochs"
    subprocess.run(line, check=True, capture_output=True)
    (run,) = find(folder)
    return run


def _runs(folder: Path) -> list[Run]:
    return find(folder) if folder.is_dir() else []


def weights(run: Run) -> torch.Tensor:
    """Return all weights after the last epoch, in one vector."""
    content = torch.load(run.checkpoints / "last.ckpt", map_location="cpu", weights_only=True)
    return torch.cat([value.double().flatten() for value in content["state_dict"].values()])


def main() -> None:
    """Train, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=20, help="10 or more (default: 20)")
    recipe = [f"trainer.max_epochs={parser.parse_args().epochs}", "data.augment.crop=1", "data.limit=1000"]
    print(f"{'network':18}{'way':24}{'weights':>9}{'largest':>10}{'val loss':>10}{'val acc':>9}")
    for arch, choice in ARCHS.items():
        with tempfile.TemporaryDirectory() as temporary:
            reference = train(Path(temporary, "reference"), *recipe, *choice, *ONE)
            for i, (way, overrides) in enumerate(WAYS.items()):
                folder = Path(temporary, str(i))
                run = train(folder, *recipe, *choice, *overrides, interrupt=way.startswith("interrupted"))
                a, b = weights(reference), weights(run)
                differing, largest = (a != b).double().mean(), (a - b).abs().max() / a.abs().max()
                loss, accuracy = (
                    run.rows()[-1][key] - reference.rows()[-1][key] for key in ("val/loss", "val/acc")
                )
                print(
                    f"{arch:18}{way:24}{differing:9.1%}{largest:10.1e}{loss:+10.1e}{100 * accuracy:+9.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
