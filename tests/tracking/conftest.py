"""Fixtures of the tests of tracking."""

import os
from pathlib import Path

import pytest
import wandb
from tracking_support import TINY
from wandb_server import KEY, serving


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    """Hide the user's account, settings and cache, and end W&B's service, which reads them when it starts."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "CNNBENCH_", "XDG_")) or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def server(monkeypatch):
    """Yield a W&B server that the client is configured for."""
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")  # rows are sent each second
        monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
        yield server


@pytest.fixture
def troublesome(tmp_path):
    """Return the arguments that train a `Troublesome` model."""
    (tmp_path / "conf/arch").mkdir(parents=True)
    config = "name: troublesome\n_target_: tracking_support.Troublesome\n"
    (tmp_path / "conf/arch/troublesome.yaml").write_text(config)
    return ["train", "--config-dir", str(tmp_path / "conf"), "arch=troublesome", *TINY]
