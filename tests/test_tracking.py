"""Logging: the real W&B client against its files and a server on this machine, and the other loggers."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import wandb
import wandb_file
import wandb_server
import yaml
from wandb_server import KEY, serving

from cnnbench.cli import main
from cnnbench.run_store.find import find
from cnnbench.settings.compose import CONF

EPOCHS = 8
TINY = ["data.limit=200", "data.limit_test=60", f"trainer.max_epochs={EPOCHS}"]
BASIC = ["train", *TINY, "arch.width=0.25", "arch.blocks=2"]
ONLINE = "logger.mode=online"


@pytest.fixture(autouse=True)
def _nobody(monkeypatch, tmp_path):
    """Nobody's account, settings or cache; W&B's service, which reads these at its start, ends too."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "CNNBENCH_", "XDG_")) or name == "NETRC":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def server(monkeypatch):
    """A W&B server that the client finds and has a key for."""
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "1")  # rows are sent each second
        monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
        yield server


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


@pytest.fixture
def troublesome(tmp_path):
    """The arguments that train it."""
    (tmp_path / "conf/arch").mkdir(parents=True)
    config = "name: troublesome\n_target_: test_tracking.Troublesome\n"
    (tmp_path / "conf/arch/troublesome.yaml").write_text(config)
    return ["train", "--config-dir", str(tmp_path / "conf"), "arch=troublesome", *TINY]


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


# --- offline -------------------------------------------------------------------------------------


def test_offline_run_is_whole(server, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    assert main([*BASIC, "name=mine"]) == 0
    assert server.requests == []
    run = the_run("mine")
    wandb_run = logged(run)
    assert wandb_run.exit_code == 0
    assert (wandb_run.group, wandb_run.job_type) == ("mine", "train")
    assert wandb_run.tags == ["arch:basic", "data:digits", *OPS, "optimizer:sgd"]
    assert wandb_run.config["arch"]["width"] == 0.25
    assert wandb_run.config["trainer"]["max_epochs"] == EPOCHS
    assert wandb_run.config["run"] == run.path.name
    stored = run.rows()
    rows = [row for row in wandb_run.history if "val/acc" in row]
    assert [{key: row[key] for key in stored[0]} for row in rows] == stored


def test_summary_takes_the_best_epoch_and_the_final_figures():
    assert main(BASIC) == 0
    run = the_run()
    wandb_run = logged(run)
    assert wandb_run.metrics["*"].step_metric == wandb_run.metrics["val/acc"].step_metric == "epoch"
    assert wandb_run.summary["val/acc"] == {"max": max(row["val/acc"] for row in run.rows())}
    assert wandb_run.summary["val/loss"] == {"min": min(row["val/loss"] for row in run.rows())}
    figures = run.summary()
    assert {"params", "best/val_acc", "test/acc", "time/train_s"} <= set(figures)
    assert {key: wandb_run.summary[key] for key in figures} == figures


def test_confusion_matrix_and_worst_mistakes():
    assert main([*BASIC, "logger.images=5"]) == 0
    files = folder_of(the_run()) / "files"
    last = logged(the_run()).history[-1]
    assert last["epoch"] == EPOCHS - 1
    table = json.loads((files / last["test/confusion_table"]["path"]).read_text())
    assert sum(count for _, _, count in table["data"]) == the_run().summary()["data/test"]
    pictures = last["test/worst_mistakes"]
    assert len(pictures["filenames"]) == 5
    assert all((files / name).read_bytes().startswith(b"\x89PNG") for name in pictures["filenames"])
    assert all("taken for" in caption for caption in pictures["captions"])


# --- every end is recorded, and nothing is left for the next run ---------------------------------


def test_crash_is_recorded_and_the_next_run_is_its_own(troublesome, monkeypatch):
    def crash(epoch):
        if epoch == 2:
            raise RuntimeError("out of cheese")

    monkeypatch.setattr(Troublesome, "trouble", staticmethod(crash))
    assert main(troublesome) == 1
    crashed = logged(the_run())
    assert crashed.exit_code == 1
    assert epochs(crashed.history) == [0, 1]
    assert wandb.run is None
    assert main([*BASIC, "name=next"]) == 0
    following = logged(the_run("next"))
    assert following.exit_code == 0
    assert following.id != crashed.id
    assert epochs(following.history) == list(range(EPOCHS))
    assert logged(the_run()) == crashed


@pytest.mark.filterwarnings("ignore:Encountered `nan` values")  # torchmetrics
def test_divergence_is_a_finished_run():
    assert main([*BASIC, "optimizer.lr=1e30"]) == 0
    assert the_run().state == "diverged"
    wandb_run = logged(the_run())
    assert wandb_run.exit_code == 0
    assert wandb_run.summary["state"] == "diverged"
    assert "is not finite in epoch" in wandb_run.summary["error"]
    assert "state:diverged" in wandb_run.tags


def test_a_failure_is_told_from_a_finish(server, monkeypatch):
    """Also at W&B, where a run that is resumed does not stay a failed one."""
    with monkeypatch.context() as patch:
        patch.delattr("lightning.pytorch.Trainer.test")
        assert main([*BASIC, ONLINE]) == 1
    (run,) = server.runs.values()
    assert run.summary["state"] == "failed"
    assert run.summary["error"].startswith("AttributeError: ")
    assert run.told["tags"][-1] == "state:failed"
    assert main([*BASIC, ONLINE]) == 0
    assert (run.summary["state"], run.summary["error"]) == ("finished", "")
    assert not [tag for tag in run.told["tags"] if tag.startswith("state:")]


@pytest.mark.slow
def test_interrupt_is_recorded(troublesome):
    assert signalled(troublesome, signal.SIGINT, has_rows(2)) == 130
    wandb_run = logged(the_run())
    assert wandb_run.exit_code == 130
    assert wandb_run.summary["state"] == "interrupted"
    assert 0 in epochs(wandb_run.history)


def test_runs_of_a_sweep_are_apart():
    assert main(["train", "-m", *BASIC[1:], "seed=0,1"]) == 0
    runs = [logged(run) for run in find(Path("outputs"))]
    assert [run.config["seed"] for run in runs] == [0, 1]
    assert [run.exit_code for run in runs] == [0, 0]
    assert [epochs(run.history) for run in runs] == [list(range(EPOCHS))] * 2
    assert runs[0].id != runs[1].id


def test_a_change_of_the_working_folder_takes_no_log_elsewhere(tmp_path, monkeypatch):
    """W&B's service goes on from the run before, in the folder where that was started."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        assert main(BASIC) == 0
        assert epochs(logged(the_run()).history) == list(range(EPOCHS))


def test_forced_repeat_is_another_run():
    assert main(BASIC) == 0
    first = logged(the_run())
    assert main([*BASIC, "force=true"]) == 0
    assert logged(the_run()).id != first.id


# --- resumed -------------------------------------------------------------------------------------


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
def test_interrupted_synced_resumed_and_synced(troublesome, server):
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


def test_online_run_is_whole(server):
    assert main([*BASIC, ONLINE, "name=mine", "logger.tags=[extra]", "logger.images=5"]) == 0
    (run,) = server.runs.values()
    assert run.exit_code == 0
    assert (run.told["groupName"], run.told["jobType"]) == ("mine", "train")
    assert run.told["tags"] == ["arch:basic", "data:digits", *OPS, "optimizer:sgd", "extra"]
    assert run.config["arch"]["value"]["width"] == 0.25
    assert epochs(run.history) == list(range(EPOCHS))
    figures = the_run("mine").summary()
    assert {key: run.summary[key] for key in figures} == figures
    shown = [*run.summary["test/worst_mistakes"]["filenames"], run.summary["test/confusion_table"]["path"]]
    assert set(shown) <= set(run.files)


def test_wrong_key_costs_only_the_upload(server, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    assert main([*BASIC, ONLINE]) == 0
    assert "401" in capfd.readouterr().err
    assert folder_of(the_run()).name.startswith("offline-run-")
    assert logged(the_run()).exit_code == 0


@pytest.mark.slow
def test_server_out_of_reach(monkeypatch, capfd):
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
    wandb_run = logged(the_run())  # what `wandb sync` can still send
    assert epochs(wandb_run.history) == list(range(EPOCHS))
    assert wandb_run.summary["test/acc"] == the_run().summary()["test/acc"]
    assert "test/worst_mistakes" in wandb_run.history[-1]
    assert "test/confusion_table" in wandb_run.history[-1]
    said = capfd.readouterr().err
    assert said.count("W&B did not get everything: its copy may lack") == 1
    assert "logging failed" not in said


def test_what_a_server_that_went_away_did_not_get_is_sent_later(troublesome, server, monkeypatch):
    """The table of the test, too, about which the client had to ask it."""

    def stop(epoch):
        if epoch == 4:
            wandb_server.Handler.do_POST = lambda self: None  # drops connections

    real = wandb_server.Handler.do_POST
    monkeypatch.setattr(wandb_server.Handler, "do_POST", real)  # put back at the end
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
    ("setting", "said"),
    [
        (f"logger.tags=[{'x' * 65}]", "allowed: tags of 1 to 64 characters"),
        ("logger.tags=['']", "allowed: tags of 1 to 64 characters"),
        ("logger.project=a/b", "allowed: 1 to 128 characters, none of /"),
        ("logger.entity=''", "allowed: 1 to 128 characters, none of /"),
    ],
)
def test_what_wandb_would_refuse(capfd, setting, said):
    assert main([*BASIC, setting]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {setting.partition('=')[0]}=")
    assert said in line
    assert not Path("outputs").exists()


def test_tags_of_its_own_are_cut_to_what_wandb_takes(troublesome, tmp_path):
    name = "a" * 90
    config = (
        (tmp_path / "conf/arch/troublesome.yaml").read_text().replace("name: troublesome", f"name: {name}")
    )
    (tmp_path / f"conf/arch/{name}.yaml").write_text(config)
    assert main([*troublesome, f"arch={name}"]) == 0
    assert f"arch:{name}"[:64] in logged(the_run()).tags


@pytest.mark.parametrize("url", ["localhost:18765", "", "ftp:/x"])
def test_an_address_that_is_none(monkeypatch, capfd, url):
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert main([*BASIC, ONLINE]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: WANDB_BASE_URL={url}: no address of a server; allowed: http")
    assert not Path("outputs").exists()
    assert main(BASIC) == 0, "offline nobody is asked"
    assert f"WANDB_BASE_URL={url}: no address of a server" in capfd.readouterr().err
    assert logged(the_run()).exit_code == 0


def test_logging_that_cannot_start_costs_no_run(monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.delattr("lightning.pytorch.Trainer.test")
        assert main([*BASIC, "logger=none"]) == 1
    (the_run().path / "wandb").write_text("in the way of a folder")
    assert main(BASIC) == 0
    assert the_run().state == "finished"
    assert "logging failed (FileExistsError" in capfd.readouterr().err


@pytest.mark.parametrize("key", [None, "too-short"])
def test_online_needs_a_key(server, monkeypatch, capfd, key):
    monkeypatch.delenv("WANDB_API_KEY")
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody to ask
    assert main([*BASIC, ONLINE]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: logger.mode=online: ")
    assert not Path("outputs").exists()


# --- other loggers -------------------------------------------------------------------------------


def csv_epochs(folder):
    with (folder / "csv/metrics.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["val/acc"]]


def tensorboard_epochs(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [event.step for event in events.Scalars("val/acc")]


@pytest.mark.parametrize(("name", "read"), [("csv", csv_epochs), ("tensorboard", tensorboard_epochs)])
def test_lightning_logger_has_each_epoch_once(troublesome, monkeypatch, name, read):
    def crash(epoch):
        if epoch == 2:
            raise RuntimeError("out of cheese")

    command = [*troublesome, f"logger={name}"]
    with monkeypatch.context() as patch:
        patch.setattr(Troublesome, "trouble", staticmethod(crash))
        assert main(command) == 1
    assert read(the_run().path) == [0, 1]
    assert main(command) == 0
    assert read(the_run().path) == list(range(EPOCHS))


def test_no_logger():
    assert main([*BASIC, "logger=none"]) == 0
    assert the_run().state == "finished"
    assert not (the_run().path / "wandb").exists()


def agent(config, count=None):
    """A sweep of W&B's, and an agent that trains it: the real `wandb sweep` and `wandb agent`."""
    Path("sweep.yaml").write_text(yaml.safe_dump(config))
    wandb_cli = [sys.executable, "-m", "wandb"]
    made = subprocess.run(
        [*wandb_cli, "sweep", "--project", "mine", "sweep.yaml"], capture_output=True, text=True, check=True
    )
    name = re.search(r"wandb agent (\S+)", made.stderr + made.stdout)[1]
    done = subprocess.run([*wandb_cli, "agent", name], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def ready():
    """The sweep that the project brings, with small runs."""
    config = yaml.safe_load((Path(CONF) / "wandb_sweep.yaml").read_text())
    place = config["command"].index("data=digits")
    small = [*TINY, "arch.blocks=2", "logger.init_timeout_s=20"]
    config["command"][place:place] = small
    config["parameters"]["arch"] = {"values": ["basic"]}
    return config


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grid", "random", "bayes"])
def test_wandb_sweep(server, method):
    config = ready() | {"method": method}
    if method == "grid":
        config["parameters"] = {"optimizer.lr": {"values": [0.02, 0.05]}, "arch": {"value": "basic"}}
    agent(config)
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
def test_wandb_sweep_asks_for_what_is_done(server):
    """The sweep gets the figures, and nothing is trained again."""
    config = ready() | {"method": "grid"}
    config["parameters"] = {"seed": {"values": [0, 1]}, "arch": {"value": "basic"}}
    agent(config)
    before = {run.path.name: run.status() for run in find(Path("outputs"))}
    first = dict(server.runs)
    server.runs.clear()
    agent(config)
    assert {run.path.name: run.status() for run in find(Path("outputs"))} == before
    assert len(server.runs) == 2
    for name, run in server.runs.items():
        assert run.told["sweep"] == "sweep1"
        assert run.summary["best/val_acc"] == first[name].summary["best/val_acc"]
        assert epochs(run.history) == list(range(EPOCHS))
        assert run.exit_code == 0


def test_axes_of_a_sweep_are_keys_of_the_configuration(server):
    """What parallel coordinates and parameter importance are drawn from."""
    assert main([*BASIC, ONLINE, "-m", "ops.norm=batch,none", "optimizer.lr=0.02,0.05", "name=axes"]) == 0
    found = {
        (run.config["ops"]["value"]["norm"], run.config["optimizer"]["value"]["lr"])
        for run in server.runs.values()
    }
    assert found == {(norm, lr) for norm in ("batch", "none") for lr in (0.02, 0.05)}
    assert {run.told["groupName"] for run in server.runs.values()} == {"axes"}
