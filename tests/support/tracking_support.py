"""Helpers of tests/tracking."""

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
    """The one folder that W&B left."""
    (folder,) = (run.path / "wandb").glob("*run-*-*")
    return folder


def logged(run):
    return wandb_file.read(folder_of(run))


def epochs(history):
    """The epochs in the order of their rows; pictures and tables have a row of their own."""
    return [row["epoch"] for row in history if "val/acc" in row]


# --- a model that makes trouble ------------------------------------------------------------------


class Troublesome(torch.nn.Sequential):
    """A model of the user's own, which does what a test wants done in the middle of training."""

    @staticmethod
    def trouble(epoch):
        """In a process of its own, a test's only trouble is that training lasts long enough to be seen."""
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
    """Train in a process of its own, to which a signal is sent when `seen()`; its exit code."""
    command = [sys.executable, "-m", "cnnbench", *arguments]
    process = subprocess.Popen(command, env=os.environ | {"PAUSE_S": "0.25"}, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not seen():
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "nothing was seen"
            time.sleep(0.02)
        if signum == signal.SIGINT:
            os.killpg(process.pid, signum)  # the whole group, as Ctrl-C does
        else:
            process.send_signal(signum)
        return process.wait(30)
    finally:
        process.kill()
        process.wait()


def has_rows(count):
    """Whether metrics.csv holds so many epochs."""
    return lambda: Path("outputs").exists() and any(len(run.rows()) >= count for run in find(Path("outputs")))
