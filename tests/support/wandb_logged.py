"""Access to the small experiment of `wandb_fixtures`."""

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
    """Return the runs of the copied experiment."""
    return find(Path("outputs"))


def folder_of(home):
    """Return the only folder in `home/wandb/`.

    W&B's service ends first, since `run.finish()` returns before it has written the last records.
    """
    wandb.teardown()
    (folder,) = (home / "wandb").glob("*run-*-*")
    return folder


def table(folder, key):
    """Return columns and rows of a logged table, as they would be uploaded."""
    entry = wandb_file.read(folder).summary[key]
    content = json.loads((folder / "files" / entry["path"]).read_text())
    return content["columns"], content["data"]
