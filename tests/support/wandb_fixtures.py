"""Fixtures of tests with W&B's client: no account, a local server, a small logged experiment."""

import gc
import os
import shutil
import warnings
from pathlib import Path

import pytest
import wandb
from wandb_logged import TINY
from wandb_server import KEY, serving

from cnnbench.cli import main

CHOICES = [
    ["arch=basic", "arch.width=0.25", "arch.blocks=2", f"ops.norm={norm}", f"seed={seed}"]
    for norm in ("batch", "none")
    for seed in (0, 1)
]
CHOICES.append(["arch=mlp", "arch.hidden=[16]", "seed=0"])


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """Hide the user's account, settings and cache, and end W&B's service, which reads them when it starts."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "CNNBENCH_", "XDG_")) or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()
    with warnings.catch_warnings():  # W&B deletes a table's files when it is collected
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def server(nobody, monkeypatch):
    """Yield a W&B server that the client is configured for."""
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")
        monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
        yield server


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train an experiment with two families, logged offline; return its folder, which tests only copy."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("WANDB_", "CNNBENCH_")):
                patch.delenv(name)
        patch.setenv("HOME", str(folder))
        patch.chdir(folder)
        for choice in CHOICES:
            assert main(["train", *TINY, *choice, "name=abl", "logger.images=1"]) == 0
        wandb.teardown()
    return folder / "outputs" / "abl"


@pytest.fixture
def outputs(nobody, trained, tmp_path):
    """Copy the experiment to `outputs/abl`."""
    shutil.copytree(trained, tmp_path / "outputs" / "abl", symlinks=True)
    return Path("outputs")
