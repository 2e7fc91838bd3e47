"""Helpers of the tests of tracking: tiny runs, their W&B logs, a model that interferes with training."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
import wandb_file

from cnnbench.run_store.find import find

EPOCHS = 8
TINY = ["data.limit=200", "data.limit_test=60", f"trainer.max_epochs={EPOCHS}"]
BASIC = ["train", *TINY, "arch.width=0.25", "arch.blocks=2"]
ONLINE = "logger.mode=online"
OPS = ["norm:batch", "act:relu", "pool:max", "padding:zeros"]


def the_run(experiment="default"):
    (run,) = find(Path("outputs", experiment))
    return run


def folder_of(run):
    """Return the only folder in a run's `wandb/`."""
    (folder,) = (run.path / "wandb").glob("*run-*-*")
    return folder


def logged(run):
    return wandb_file.read(folder_of(run))


def epochs(history):
    """Return the epochs in the order of their rows, without the extra row of images and tables."""
    return [row["epoch"] for row in history if "val/acc" in row]


# --- a model that interferes with its training ---------------------------------------------------


class Troublesome(torch.nn.Sequential):
    """A user's own model, which calls a function of the test in the middle of training."""

    @staticmethod
    def trouble(epoch):
        """Sleep, so that a process of its own trains long enough to be observed; tests patch this."""
        time.sleep(float(os.environ.get("PAUSE_S", "0")))

    def __init__(self, in_channels: int, num_classes: int):
        features = [torch.nn.Conv2d(in_channels, 4, 3), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()]
        super().__init__(*features, torch.nn.Linear(16, num_classes))
        self.batches = 0

    def forward(self, images):
        if self.training:
            self.trouble(self.batches // 2)  # TINY has two batches an epoch
            self.batches += 1
        return super().forward(images)


def signalled(arguments, signum, seen):
    """Train in a process of its own, signal it as soon as `seen()`, and return its exit code."""
    command = [sys.executable, "-m", "cnnbench", *arguments]
    process = subprocess.Popen(command, env=os.environ | {"PAUSE_S": "0.25"}, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not seen():
            assert process.poll() is None, "the process ended by itself"
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.02)
        if signum == signal.SIGINT:
            os.killpg(process.pid, signum)  # to the process group, as Ctrl-C does
        else:
            process.send_signal(signum)
        return process.wait(30)
    finally:
        process.kill()
        process.wait()


def has_rows(count):
    """Return a function that checks whether metrics.csv of a run has this many epochs."""
    return lambda: Path("outputs").exists() and any(len(run.rows()) >= count for run in find(Path("outputs")))
