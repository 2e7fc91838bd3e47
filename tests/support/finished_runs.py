"""Training runs for tests to use, and folders of images."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import the_run

from cnnbench.cli import main
from cnnbench.run_store.run import Run

SMALL = ["arch.width=0.25", "arch.blocks=2", "logger=none"]


def train(folder, *asked):
    """A run below a folder, trained in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("WANDB_", "CNNBENCH_")):
                patch.delenv(name)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.chdir(folder)
        assert main(["train", *asked]) == 0
    return Run(the_run(folder / "outputs"))


def write_photos(folder: Path, names, count, seed=0):
    """Noise with a colour of its own for each class, in sizes and shapes that differ."""
    random = np.random.default_rng(seed)
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 120, (30 + i, 60 - 2 * i, 3), dtype=np.uint8)
            pixels[..., k % 3] += 100
            Image.fromarray(pixels).save(folder / name / f"{i:02}.{'png' if i % 2 else 'jpg'}")
