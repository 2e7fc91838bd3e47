"""The start of every test: an empty working folder, no accounts, no settings from outside."""

import os
import signal
import sys
from pathlib import Path

import pytest

from cnnbench.cli import main

# As where the environment is activated: `ray` and `python` are found, also by `.venv/bin/pytest`.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

# Processes of tests share the cores: an OpenMP thread that waits for the others must not spin meanwhile.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# What is started in the background ignores Ctrl-C, with `nohup` a closed terminal too; so would all that the
# tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items):
    """A slow test may take its time: two of them share the cores."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("WANDB_", "CNNBENCH_")) or name == "HYDRA_FULL_ERROR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    # What this test has written is not for the next one; threads of libraries may import meanwhile.
    for name, module in sys.modules.copy().items():
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def cli(capfd):
    """`cli("train", …)` in this process: (exit code, standard output, standard error)."""

    def run(*arguments):
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run
