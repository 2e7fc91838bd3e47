"""Logging to W&B, with the real client and a local server: resumed runs, failures, W&B's own sweeps."""

import io
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
import wandb_server
import yaml
from tracking_support import (
    BASIC,
    EPOCHS,
    ONLINE,
    OPS,
    TINY,
    Troublesome,
    epochs,
    folder_of,
    has_rows,
    logged,
    signalled,
    the_run,
)
from wandb_server import KEY

from cnnbench.cli import main
from cnnbench.run_store.find import find
from cnnbench.settings.compose import CONF

# --- resumed runs --------------------------------------------------------------------------------


def test_killed_run_is_resumed_and_synced_as_one(troublesome, server):
    assert signalled(troublesome, signal.SIGKILL, has_rows(2)) == -signal.SIGKILL
    killed = folder_of(the_run())
    assert main(troublesome) == 0
    folder = folder_of(the_run())
    assert folder != killed
    wandb_run = logged(the_run())
    assert wandb_run.exit_code == 0
    assert epochs(wandb_run.history) == list(range(EPOCHS))
    assert server.requests == []
    subprocess.run([sys.executable, "-m", "wandb", "sync", str(folder)], check=True)
    (run,) = server.runs.values()
    assert run.name == wandb_run.id
    assert epochs(run.history) == list(range(EPOCHS))
    assert run.summary["best/val_acc"] == the_run().summary()["best/val_acc"]
    assert run.exit_code == 0


@pytest.mark.slow
def test_interrupted_run_is_synced_resumed_and_synced(troublesome, server):
    assert signalled(troublesome, signal.SIGTERM, has_rows(2)) == 143
    assert main(["sync"]) == 0
    (run,) = server.runs.values()
    assert (run.summary["state"], run.exit_code) == ("interrupted", 143)
    assert 0 < len(run.history) < EPOCHS
    assert main(troublesome) == 0
    assert main(["sync"]) == 0
    assert list(server.runs.values()) == [run]
    assert [row["_step"] for row in run.history] == list(range(EPOCHS + 1))
    assert epochs(run.history) == list(range(EPOCHS))
    assert (run.summary["state"], run.exit_code) == ("finished", 0)
    assert not [tag for tag in run.told["tags"] if tag.startswith("state:")]


@pytest.mark.slow
def test_killed_online_run_is_resumed_as_one(troublesome, server):
    def sent():
        return any(len(run.history) >= 2 for run in server.runs.values())

    assert signalled([*troublesome, ONLINE], signal.SIGKILL, sent) == -signal.SIGKILL
    (run,) = server.runs.values()
    assert run.exit_code is None
    assert len(run.history) < EPOCHS
    assert main([*troublesome, ONLINE]) == 0
    assert list(server.runs.values()) == [run]
    assert epochs(run.history) == list(range(EPOCHS))
    assert run.exit_code == 0
    assert epochs(logged(the_run()).history)[-1] == EPOCHS - 1  # and one folder


def test_online_run_that_failed_at_its_end_is_resumed_as_one(server, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.delattr("lightning.pytorch.Trainer.test")
        assert main([*BASIC, ONLINE]) == 1
    (run,) = server.runs.values()
    assert run.exit_code == 1
    assert epochs(run.history) == list(range(EPOCHS))
    assert main([*BASIC, ONLINE]) == 0
    assert list(server.runs.values()) == [run]
    assert run.exit_code == 0
    assert epochs(run.history) == list(range(EPOCHS))
    assert "less than the current step" not in capfd.readouterr().err
    assert run.history[-1]["epoch"] == EPOCHS - 1
    assert "test/worst_mistakes" in run.history[-1]


# --- online --------------------------------------------------------------------------------------


def test_online_run_is_complete(server):
    assert main([*BASIC, ONLINE, "name=mine", "logger.tags=[extra]", "logger.images=5"]) == 0
    (run,) = server.runs.values()
    assert run.exit_code == 0
    assert (run.told["groupName"], run.told["jobType"]) == ("mine", "train")
    assert run.told["tags"] == ["arch:basic", "data:digits", *OPS, "optimizer:sgd", "extra"]
    assert run.config["arch"]["value"]["width"] == 0.25
    assert epochs(run.history) == list(range(EPOCHS))
    metrics = the_run("mine").summary()
    assert {key: run.summary[key] for key in metrics} == metrics
    media = [*run.summary["test/worst_mistakes"]["filenames"], run.summary["test/confusion_table"]["path"]]
    assert set(media) <= set(run.files)


def test_wrong_key_costs_only_the_upload(server, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    assert main([*BASIC, ONLINE]) == 0
    assert "401" in capfd.readouterr().err
    assert folder_of(the_run()).name.startswith("offline-run-")
    assert logged(the_run()).exit_code == 0


@pytest.mark.slow
def test_unreachable_server(monkeypatch, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    start = time.monotonic()
    assert main([*BASIC, ONLINE, "logger.init_timeout_s=1"]) == 0
    assert time.monotonic() - start < 30
    assert "logging offline" in capfd.readouterr().err
    assert folder_of(the_run()).name.startswith("offline-run-")
    assert logged(the_run()).exit_code == 0
    assert epochs(logged(the_run()).history) == list(range(EPOCHS))


@pytest.mark.slow
def test_server_that_goes_away(troublesome, server, monkeypatch, capfd):
    def stop(epoch):
        if epoch == 1:
            server.stop()

    monkeypatch.setattr(Troublesome, "trouble", staticmethod(stop))
    start = time.monotonic()
    assert main([*troublesome, ONLINE, "logger.finish_timeout_s=1"]) == 0
    assert time.monotonic() - start < 30
    (run,) = server.runs.values()
    assert run.exit_code is None
    assert the_run().state == "finished"
    wandb_run = logged(the_run())  # the log that `wandb sync` can upload later
    assert epochs(wandb_run.history) == list(range(EPOCHS))
    assert wandb_run.summary["test/acc"] == the_run().summary()["test/acc"]
    assert "test/worst_mistakes" in wandb_run.history[-1]
    assert "test/confusion_table" in wandb_run.history[-1]
    err = capfd.readouterr().err
    assert err.count("W&B did not receive everything: its copy may lack") == 1
    assert "logging failed" not in err


def test_data_missed_by_a_server_that_went_away_is_uploaded_later(troublesome, server, monkeypatch):
    """Includes the table of the test split, for which the client needs the server's answer."""

    def stop(epoch):
        if epoch == 4:
            wandb_server.Handler.do_POST = lambda self: None  # drops connections

    real = wandb_server.Handler.do_POST
    monkeypatch.setattr(wandb_server.Handler, "do_POST", real)  # restored at the end
    monkeypatch.setattr(Troublesome, "trouble", staticmethod(stop))
    assert main([*troublesome, ONLINE, "logger.finish_timeout_s=1"]) == 0
    monkeypatch.setattr(wandb_server.Handler, "do_POST", real)
    wandb.teardown()
    assert main(["sync"]) == 0
    (run,) = server.runs.values()
    assert epochs(run.history) == list(range(EPOCHS))
    assert [row["_step"] for row in run.history] == list(range(EPOCHS + 1))
    assert run.summary["test/confusion_table"]["path"] in run.files
    assert (run.summary["state"], run.exit_code) == ("finished", 0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (f"logger.tags=[{'x' * 65}]", "allowed: tags of 1 to 64 characters"),
        ("logger.tags=['']", "allowed: tags of 1 to 64 characters"),
        ("logger.project=a/b", "allowed: 1 to 128 characters, none of /"),
        ("logger.entity=''", "allowed: 1 to 128 characters, none of /"),
    ],
)
def test_settings_that_wandb_would_reject(capfd, setting, message):
    assert main([*BASIC, setting]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {setting.partition('=')[0]}=")
    assert message in line
    assert not Path("outputs").exists()


@pytest.mark.parametrize("url", ["localhost:18765", "", "ftp:/x"])
def test_an_invalid_address(monkeypatch, capfd, url):
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert main([*BASIC, ONLINE]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: WANDB_BASE_URL={url}: not the address of a server; allowed: http")
    assert not Path("outputs").exists()
    assert main(BASIC) == 0, "offline no server is contacted"
    assert f"WANDB_BASE_URL={url}: not the address of a server" in capfd.readouterr().err
    assert logged(the_run()).exit_code == 0


def test_an_address_that_wandb_refuses(monkeypatch, capfd):
    """The line has W&B's reason, without pydantic's frame around it."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://a b")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert main([*BASIC, ONLINE]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: WANDB_BASE_URL=http://a b: should be a valid URL")


@pytest.mark.parametrize("key", [None, "too-short"])
def test_online_needs_a_key(server, monkeypatch, capfd, key):
    monkeypatch.delenv("WANDB_API_KEY")
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no interactive session
    assert main([*BASIC, ONLINE]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: logger.mode=online: ")
    assert not Path("outputs").exists()


def run_agent(config):
    """Create a W&B sweep and run an agent for it, with the real `wandb sweep` and `wandb agent`."""
    Path("sweep.yaml").write_text(yaml.safe_dump(config))
    wandb_cli = [sys.executable, "-m", "wandb"]
    created = subprocess.run(
        [*wandb_cli, "sweep", "--project", "mine", "sweep.yaml"], capture_output=True, text=True, check=True
    )
    name = re.search(r"wandb agent (\S+)", created.stderr + created.stdout)[1]
    done = subprocess.run([*wandb_cli, "agent", name], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def shipped_sweep():
    """Return the project's own sweep file with small runs."""
    config = yaml.safe_load((Path(CONF) / "wandb_sweep.yaml").read_text())
    position = config["command"].index("data=digits")
    config["command"][position:position] = [*TINY, "arch.blocks=2", "logger.init_timeout_s=20"]
    config["parameters"]["arch"] = {"values": ["basic"]}
    return config


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_wandb_sweep(server, method):
    config = shipped_sweep() | {"method": method}
    if method == "grid":
        config["parameters"] = {"optimizer.lr": {"values": [0.02, 0.05]}, "arch": {"value": "basic"}}
    run_agent(config)
    runs = find(Path("outputs"))
    assert [run.state for run in runs] == ["finished"] * 2
    (sweep,) = server.sweeps
    assert len(server.runs) == 2
    for run in server.runs.values():
        assert run.told["sweep"] == sweep
        assert run.told["project"] == "mine"
        assert run.told["groupName"] == "wandb_sweep"
        assert run.exit_code == 0
        assert epochs(run.history) == list(range(EPOCHS))
        assert 0 <= run.summary["best/val_acc"] <= 1
        assert run.config["optimizer.lr"]["value"] == run.config["optimizer"]["value"]["lr"]
    assert {run.summary()["best/val_acc"] for run in runs} == {
        run.summary["best/val_acc"] for run in server.runs.values()
    }


@pytest.mark.slow
def test_wandb_sweep_over_finished_runs(server):
    """The sweep receives the stored metrics, and nothing is trained again."""
    config = shipped_sweep() | {"method": "grid"}
    config["parameters"] = {"seed": {"values": [0, 1]}, "arch": {"value": "basic"}}
    run_agent(config)
    before = {run.path.name: run.status() for run in find(Path("outputs"))}
    first = dict(server.runs)
    server.runs.clear()
    run_agent(config)
    assert {run.path.name: run.status() for run in find(Path("outputs"))} == before
    assert len(server.runs) == 2
    for name, run in server.runs.items():
        assert run.told["sweep"] == "sweep1"
        assert run.summary["best/val_acc"] == first[name].summary["best/val_acc"]
        assert epochs(run.history) == list(range(EPOCHS))
        assert run.exit_code == 0


def test_axes_of_a_sweep_are_keys_of_the_config(server):
    """W&B draws parallel coordinates and parameter importance from them."""
    assert main([*BASIC, ONLINE, "-m", "ops.norm=batch,none", "optimizer.lr=0.02,0.05", "name=axes"]) == 0
    configs = {
        (run.config["ops"]["value"]["norm"], run.config["optimizer"]["value"]["lr"])
        for run in server.runs.values()
    }
    assert configs == {(norm, lr) for norm in ("batch", "none") for lr in (0.02, 0.05)}
    assert {run.told["groupName"] for run in server.runs.values()} == {"axes"}
