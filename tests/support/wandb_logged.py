"""The small experiment of `wandb_fixtures`, looked at."""

import json
from pathlib import Path

import wandb
import wandb_file

from cnnbench.run_store.find import find

EPOCHS = 2
TINY = [
    "data=digits",
    "data.limit=200",
    "data.limit_test=60",
    f"trainer.max_epochs={EPOCHS}",
    "device.threads=1",
]


def runs():
    """The runs of the copy."""
    return find(Path("outputs"))


def folder_of(home):
    """The one folder that W&B left there.

    Its service ends first: `run.finish()` returns a moment before the last records are in the file.
    """
    wandb.teardown()
    (folder,) = (home / "wandb").glob("*run-*-*")
    return folder


def table(folder, key):
    """A table that was logged: its columns and rows, as they would be uploaded."""
    told = wandb_file.read(folder).summary[key]
    found = json.loads((folder / "files" / told["path"]).read_text())
    return found["columns"], found["data"]
